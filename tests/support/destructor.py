"""`eventboard`, told to end while it imports, in a destructor: what is raised there is printed and lost."""

import os
import signal
import sys
from typing import Any

from eventboard.__main__ import main


class Dying:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class Watching:
    """Sees what is imported, and finds nothing itself."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "eventboard.web.server":
            Dying()


if __name__ == "__main__":
    sys.meta_path.insert(0, Watching())
    sys.exit(main())
