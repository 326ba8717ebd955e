"""What a user did wrong, or what the machine denied: one line and an exit code, never a traceback."""

from __future__ import annotations

import difflib
import errno
import logging
import re
from collections.abc import Iterable

OK, USER_ERROR, USAGE, NON_FINITE, DAMAGED, DISK, HANG, SIGINT, SIGTERM = 0, 1, 2, 3, 4, 5, 6, 130, 143
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


class UserError(Exception):
    """A mistake of the user's. The text is one line: where, what was given, what is allowed, how to mend."""

    exit_code = USER_ERROR

    def __init__(self, message: str):
        super().__init__(printable(message))


class OneLine(logging.Filter):
    """What the package logs is one line too: the text of a user's file may stand in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


logging.getLogger("flaxft").addFilter(OneLine())


class UsageError(UserError):
    """The command itself is wrong."""

    exit_code = USAGE


class NonFiniteError(UserError):
    """Loss or gradients were not finite for several steps in a row."""

    exit_code = NON_FINITE


class DamagedError(UserError):
    """Checkpoints are there, but none is whole."""

    exit_code = DAMAGED


class DiskError(UserError):
    """The disk is full, or a place cannot be written."""

    exit_code = DISK


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived; what was to be saved is saved. `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest of `allowed`, or an empty string."""
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def reason(error: BaseException) -> str:
    """A library's error as part of one line: its text without line breaks, cut where it is a page, or else its name."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


# What stands before the host of an address, and keys as the hub and the usual servers write them.
SECRETS = re.compile(r"(\w:/{1,2})[^/\s@'\"]+(?=@)|\bhf_[A-Za-z0-9]{30,}|((?i:bearer) )[\w.~+/=-]{8,}")


def printable(text: str) -> str:
    """One line that a terminal shows as it is: line breaks, control and bidi characters become escapes, a password in an address or a key becomes `***`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}***", text))


def printable_lines(text: str) -> str:
    """The same of several lines, whose line breaks are ours."""
    return "\n".join(map(printable, text.split("\n")))
