"""What every rule script shares: a log file, and messages instead of tracebacks for a user's mistakes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from slidestudy.errors import StudyError


@contextlib.contextmanager
def rule_script(log: str | os.PathLike[str]) -> Iterator[None]:
    """Sends what a rule's script prints to its log, and ends a user's mistake with one message.

    Anything else that goes wrong keeps its traceback, in the log, as it is a mistake of ours.

    Args:
        log: The rule's log file.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("w", encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        try:
            yield
        except StudyError as error:
            print(f"ERROR: {error}", file=stream)
            stream.flush()
            # Ends the interpreter without the traceback that the workflow engine would print.
            os._exit(1)
        except BaseException:
            import traceback

            traceback.print_exc(file=stream)
            stream.flush()
            sys.__stderr__.write(f"unexpected error, see {path}\n") if sys.__stderr__ else None
            raise
