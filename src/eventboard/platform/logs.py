"""Logs: loguru, to standard error; what libraries log goes the same way."""

import inspect
import logging
import sys

from loguru import logger

TEXT = "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message} <dim>{extra[correlation_id]}</dim>"


def configure(*, level: str, json: bool) -> None:
    logger.remove()
    logger.configure(extra={"correlation_id": ""})
    # diagnose would print the values of variables: passwords and tokens among them.
    logger.add(
        sys.stderr, level=level, format="{message}" if json else TEXT, serialize=json, backtrace=False, diagnose=False
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)


class _ToLoguru(logging.Handler):
    """The standard library's records, as loguru's documentation hands them on."""

    def emit(self, record: logging.LogRecord) -> None:
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        logger.opt(depth=depth, exception=record.exc_info).log(record.levelname, record.getMessage())
