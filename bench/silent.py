"""`eventboard` without metrics, for `bench.telemetry` alone: what they cost is seen where they are away."""

import sys
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from eventboard.__main__ import main


def nothing(*_: Any, **__: Any) -> None:
    """Counts nothing."""


for kind, method in ((Counter, "inc"), (Gauge, "set"), (Histogram, "observe")):
    setattr(kind, method, nothing)

if __name__ == "__main__":
    sys.exit(main())
