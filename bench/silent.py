"""`eventboard` without metrics, for `bench.telemetry` alone: what they cost is seen where they are away."""

import sys
from typing import Any

from eventboard.__main__ import main
from eventboard.platform.metrics import Counter, Gauge, Histogram


def nothing(*_: Any, **__: Any) -> None:
    """Counts nothing."""


for kind, method in ((Counter, "add"), (Gauge, "set"), (Histogram, "observe")):
    setattr(kind, method, nothing)
setattr(Histogram, "observer", lambda *_: nothing)  # noqa: B010 - as the others

if __name__ == "__main__":
    sys.exit(main())
