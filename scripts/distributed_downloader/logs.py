"""Log files by stage and rank, and how a script ends when something is wrong.

Each line: UTC time, level, stage and rank, logger, message. What libraries say below WARNING is
left out: a client's line per request would bury ours.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from distributed_downloader.durable import is_disk_error, storage_error
from distributed_downloader.errors import ConfigError, DownloaderError
from distributed_downloader.wording import one_line

OURS = ("distributed_downloader", "__main__")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE
ERASE = "\r\x1b[K"

_log = logging.getLogger(__name__)
_handlers: list[logging.Handler] = []


class _OneLine(logging.Formatter):
    """Messages quote URLs and headers of strangers: none may forge a line or move the cursor."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        record.message = one_line(record.message)
        return super().formatMessage(record)


class _LogFile(logging.FileHandler):
    """A line that the disk does not take is left out: the work itself says what is wrong."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # what was not written yet
            super().close()


def start_logging(log: Path | None, level: str, *, stage: str, rank: int = 0) -> None:
    """Append this process's lines to `log` (None: no file); WARNING and above also to stderr.

    A second call replaces what the first set up. Raises ConfigError for an unknown level.
    """
    if level.upper() not in LEVELS:
        raise ConfigError(f"Unknown logger_level {level!r}: take one of {', '.join(LEVELS)}.")
    stop_logging()
    if log is not None:
        _add(_file_handler(log, stage, rank))
    _add(_stderr_handler())
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())


def stop_logging() -> None:
    """Close what `start_logging` opened."""
    while _handlers:
        handler = _handlers.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()


def _add(handler: logging.Handler) -> None:
    logging.getLogger().addHandler(handler)
    _handlers.append(handler)


def _file_handler(log: Path, stage: str, rank: int) -> logging.Handler:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(log, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"Cannot write the log {log}: {error.strerror or error}. "
            "Make its folder writable, or name another logs_folder."
        ) from error
    pattern = f"%(asctime)s.%(msecs)03dZ %(levelname)s {stage}/{rank} %(name)s: %(message)s"
    handler.setFormatter(_OneLine(pattern, datefmt="%Y-%m-%dT%H:%M:%S"))
    return handler


def _stderr_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: not getattr(record, "told", False))
    handler.setFormatter(_OneLine(f"{erased(sys.stderr)}%(levelname)s: %(message)s"))
    return handler


@contextmanager
def reporting_errors() -> Iterator[None]:
    """What a script's `main` runs in: exit codes tell the truth, people get one sentence.

    1. DownloaderError: `error: <sentence>` on stderr and in the log, exit 1;
    2. Ctrl-C: exit 130; the reader of our output went away: exit 141; both without a traceback;
    3. a disk that is full, or broken: as 1;
    4. anything else is a fault of ours: its traceback in the log and on stderr, exit 1.
    """
    theirs, sys.unraisablehook = sys.unraisablehook, _record_unraisable
    try:
        yield
    except DownloaderError as error:
        _tell(str(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _record(logging.INFO, "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _record(logging.INFO, "the reader of the output went away")
        _silence_stdout()
        raise SystemExit(PIPE_CLOSED) from None
    except OSError as error:
        if not is_disk_error(error):
            _record(logging.ERROR, "a fault of this program", with_traceback=True)
            raise
        _tell(str(storage_error(Path(error.filename or "to the disk"), error)))
        raise SystemExit(1) from None
    except Exception:
        _record(logging.ERROR, "a fault of this program", with_traceback=True)
        raise
    finally:
        sys.unraisablehook = theirs


def is_live(stream: TextIO) -> bool:
    """Whether what is written there can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def erased(stream: TextIO) -> str:
    """What takes another process's live line (`waves.progress`) away, before a line of ours."""
    return ERASE if is_live(stream) else ""


def tell(sentence: str) -> None:
    """Say it to the person at the terminal, and to the log."""
    with suppress(BrokenPipeError):
        print(erased(sys.stderr) + one_line(sentence), file=sys.stderr, flush=True)
    _record(logging.INFO, sentence)


def _tell(sentence: str) -> None:
    with suppress(BrokenPipeError):
        print(f"{erased(sys.stderr)}error: {sentence}", file=sys.stderr, flush=True)
    _record(logging.ERROR, sentence)


def _record(level: int, text: str, *, with_traceback: bool = False) -> None:
    """To the log only: stderr is told otherwise (without handlers, logging would tell it too)."""
    if logging.getLogger().hasHandlers():
        _log.log(level, "%s", text, exc_info=with_traceback, extra={"told": True})


def _record_unraisable(fault: Any) -> None:
    """What went wrong where nobody could be told, as when HDF5 lets go of a file."""
    _record(logging.WARNING, f"{fault.err_msg or 'ignored'}: {fault.exc_value!r}")


def _silence_stdout() -> None:
    """Python flushes stdout once more at exit, and would complain again."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
