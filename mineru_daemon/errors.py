"""Every error a user can meet: what happened, to which file, what to do.

The text of each error is one sentence that can stand alone in a log, on a terminal
or in a result document. Programs tell errors apart by `code`; shells by `exit_code`
(numbers of sysexits.h).
"""

from __future__ import annotations

EX_USAGE = 64
EX_DATAERR = 65
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_OSERR = 71
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_CONFIG = 78


class MineruError(Exception):
    """Base of all errors that are meant to be read by a person."""

    code = "internal"
    exit_code = EX_SOFTWARE


class ConfigError(MineruError):
    """A setting or a folder is not usable; the daemon does not start."""

    code = "config"
    exit_code = EX_CONFIG


class InstallError(MineruError):
    """The service cannot be installed like this."""

    code = "install"
    exit_code = EX_CONFIG


class AlreadyRunningError(MineruError):
    """Another daemon works on the same spool."""

    code = "already-running"
    exit_code = EX_TEMPFAIL


class EngineError(MineruError):
    """The engine cannot be loaded or failed on a page."""

    code = "engine"
    exit_code = EX_SOFTWARE


class ModelError(EngineError):
    """A checkpoint or a model folder is missing, damaged or of another kind."""

    code = "model"
    exit_code = EX_DATAERR


class DownloadError(MineruError):
    """A checkpoint cannot be fetched from its hub; what came so far is kept."""

    code = "download"
    exit_code = EX_UNAVAILABLE


class CancelledError(MineruError):
    """Work on a page was given up because the daemon is stopping."""

    code = "cancelled"
    exit_code = EX_TEMPFAIL


class StorageError(MineruError):
    """A folder or disk refuses to be read or written; the work is kept and tried again."""

    code = "storage"
    exit_code = EX_IOERR


class StartError(MineruError, OSError):
    """A process cannot be started: this machine's fault, not the document's."""

    code = "start"
    exit_code = EX_OSERR


class DocumentError(MineruError):
    """A file, or a page of it, cannot be read. Final: trying again does not help."""

    code = "damaged"
    exit_code = EX_DATAERR


class UnsupportedError(DocumentError):
    """The content is of no kind that is read here."""

    code = "unsupported"


class IncompleteError(DocumentError):
    """The content ends before its end: still being written, or cut off."""

    code = "incomplete"


class EmptyError(DocumentError):
    """Nothing to read: no bytes, or no pages."""

    code = "empty"


class EncryptedError(DocumentError):
    """A password is needed."""

    code = "encrypted"


class LimitError(DocumentError):
    """The file or a page of it is larger than the limits allow."""

    code = "too-large"


class MemoryLimitError(LimitError):
    """Reading the file takes more memory than the limits allow."""

    code = "memory"


class SlowError(LimitError):
    """Reading the file takes longer than the limits allow."""

    code = "too-slow"


class CrashedError(DocumentError):
    """Reading the file ended the process that did it."""

    code = "crashed"


class HungError(CrashedError):
    """Reading the file came to no end, and the process that did it was ended."""

    code = "hung"
