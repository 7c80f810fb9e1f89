"""The first lines of every `eventboard` process: from here on it ends well when it is told to, while it starts too."""

import gc
import os
import signal
import sys
from types import FrameType


def main() -> int:
    # Before anything else is imported, which takes a second. Who has something to clear up has a handler of its own.
    signal.signal(signal.SIGTERM, _end)
    try:
        from eventboard.cli import main as command

        return command()
    except KeyboardInterrupt:
        return 0
    finally:
        # Python looks for cycles several times while it ends, half a second of work, and gives all memory back anyway.
        gc.freeze()


def _end(_: int, __: FrameType | None) -> None:
    """At once: what is raised may be lost, in a destructor or in a module that takes it for an import's failure."""
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
