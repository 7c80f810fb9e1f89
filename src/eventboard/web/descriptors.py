"""The limit on open files, which connections count against."""

import resource
from contextlib import suppress

from loguru import logger

# With fewer, some hundreds of slow clients could use up all of them.
ENOUGH_DESCRIPTORS = 4096
MACOS_OPEN_MAX = 10_240


def raise_descriptors() -> None:
    """Raises the soft limit, often 1,024, to the hard limit. Logs a warning if that is low.

    At the limit no connection is accepted, operators' included.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS calls the hard limit infinite, and takes no more than OPEN_MAX.
        for wanted in (hard, MACOS_OPEN_MAX):
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_DESCRIPTORS:
        logger.warning(
            "this process may have no more than {} files and connections open: raise the hard limit (ulimit -Hn, "
            "LimitNOFILE of systemd) to {} or more",
            soft,
            ENOUGH_DESCRIPTORS,
        )
