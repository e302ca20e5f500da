"""The log: structlog, one event per line, readable by journald and by people.

Nothing that comes from outside (file names above all) can break a line, move a
terminal's cursor or reorder text: such characters are escaped in every value.

To journald each line begins with its level, `<4>` for a warning, which it takes off: so
`journalctl --priority=warning` works without a socket of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from mineru_daemon.printable import printable

Level = Literal["debug", "info", "warning", "error"]

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of syslog, as sd-daemon(3) has them before a line."""


def _escape_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            # A traceback has lines of its own; what is in them comes from outside as well.
            lines = value.split("\n") if key == "exception" else [value]
            event[key] = "\n".join(map(printable, lines))
    return event


def mark(level: str) -> str:
    """What a line on standard error begins with: `<3>` for an error where it goes to journald."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return ""
    # systemd.exec(5): a process may have inherited the variable without the stream.
    if os.environ.get("JOURNAL_STREAM") != f"{stream.st_dev}:{stream.st_ino}":
        return ""
    return f"<{PRIORITIES[level]}>"


def _with_mark(renderer: Any) -> Any:
    marks = {level: mark(level) for level in PRIORITIES}

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return marks[event["level"]] + str(renderer(logger, method, event))

    return render


class _SteadyLogger(structlog.PrintLogger):
    """Prints, and lets a line go that nobody takes: a log on a full disk, or a pipe whose
    reader is gone, must not stop what is logged."""

    def msg(self, message: str) -> None:
        """Print `message`."""
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = log = msg


class _LibraryHandler(logging.Handler):
    """Passes records of libraries on as events of our own, so that all lines look alike."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=record.getMessage()
        )


def configure(level: Level = "info", form: Literal["auto", "json", "console"] = "auto") -> None:
    """Set the process's log up; may be called again to change the level."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _escape_values,
            _with_mark(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: _SteadyLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler()]
    root.setLevel(logging.ERROR)
