"""Reads that are tried again: network file systems fail now and then, and recover."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def failed_reading(error: BaseException) -> bool:
    """Whether an error came from the file system, rather than from what the file holds.

    Libraries raise OSErrors without a number for damaged files; a seek to a nonsensical offset is an invalid argument.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


@dataclass(frozen=True)
class Retries:
    """How often a failed read is tried again.

    Attributes:
        count: Further attempts after the first.
        wait_s: Pause before the first of them, seconds; doubled before each next one.
    """

    count: int = 3
    wait_s: float = 0.5

    def call(self, work: Callable[[], T]) -> T:
        """Does work, again after an OSError; files that are missing or forbidden are not tried again.

        Raises:
            OSError: The last attempt's error.
        """
        for attempt in range(self.count):
            try:
                return work()
            except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
                raise
            except OSError:
                time.sleep(self.wait_s * 2**attempt)
        return work()

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """Reads bytes of an open file at an offset; fewer where the file ends before.

        Raises:
            OSError: The file cannot be read, after all attempts.
        """
        parts: list[bytes] = []
        while length > 0:
            part = self.call(partial(os.pread, descriptor, length, offset))
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
