"""The ledger of a reader: every question that was sent and every answer that came back, so that none is asked twice.

A reader's ledger is a folder of JSON lines, one file per job, `<model>.<rule>.<explanation>.jsonl`. A line is written
as soon as its answer is there, and files only grow. All files of the folder are read at the start of a job: a rerun, a
resumed run, or another explanation with the same text finds its answers there. A line that a killed job left half
written is passed over. Images stand in it as digests, keys and addresses not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError

__all__ = ["Caps", "Job", "Ledger", "ledger_summary", "reader_folder"]

SUFFIX = ".jsonl"
OF_SET, SET = "/sets/", "~"
"""Between a model and a set of patches, in folders and in a ledger's file names."""
COUNTS = ("questions", "from_ledger", "requests", "failed", "asked_again")
TOKENS = ("input_tokens", "output_tokens", "cost")
Record = dict[str, Any]


def reader_folder(root: str | os.PathLike[str], reader: str) -> Path:
    """The folder of a reader's ledger; characters that a file's name should not have become `-`."""
    return Path(root) / re.sub(r"[^A-Za-z0-9._-]+", "-", reader).strip(".-")


@dataclass(frozen=True)
class Job:
    """Which job asks.

    Attributes:
        root: The folder of all ledgers.
        model: The model that is explained, or `<model>/sets/<set>` where the patches are not the frozen sample.
        rule: The workflow's rule.
        explanation: The explanation or control; blank where patches are described.
    """

    root: Path
    model: str
    rule: str
    explanation: str = ""

    @property
    def file(self) -> str:
        """Name of the job's file."""
        model = self.model.replace(OF_SET, SET)
        return ".".join(part for part in (model, self.rule, self.explanation) if part) + SUFFIX


@dataclass(frozen=True)
class Caps:
    """How much may be spent on a reader, over all jobs of a study.

    Attributes:
        calls: Most requests sent, repeats of failed ones among them; None: any number.
        cost: Most cost, in the unit of the prices; None: any.
    """

    calls: int | None = None
    cost: float | None = None


@dataclass
class Ledger:
    """The open ledger of a reader.

    Attributes:
        folder: The reader's folder.
        job: The job that writes.
        caps: How much may be spent.
    """

    folder: Path
    job: Job
    caps: Caps = field(default_factory=Caps)

    def __post_init__(self) -> None:
        self._stream: Any = None
        self._syncing: ThreadPoolExecutor | None = None
        self._waiting = False
        self._clear()

    def _clear(self) -> None:
        self._records: dict[str, Record] = {}
        self._notes: list[Record] = []
        self._sent, self._cost, self._dearest, self._open = 0, 0.0, 0.0, 0
        self._asked, self._found, self._again, self._failed, self._requests = 0, 0, 0, 0, 0

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        """Reads all files of the folder, and writes to the job's file while the block lasts.

        One job at a time: two that run side by side would ask the same question twice, and spend more than the caps.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / ".lock"):
            self._load()
            path = self.folder / self.job.file
            torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
            with path.open("ab", buffering=0) as self._stream, ThreadPoolExecutor(1) as self._syncing:
                if torn:
                    self._stream.write(b"\n")
                try:
                    yield self
                finally:
                    self._append({"note": "job", **self.counts()})
                    self._sync()

    @property
    def empty(self) -> bool:
        """Whether it knows no answer at all."""
        return not self._records

    def find(self, key: str) -> Record | None:
        """The record of a question that was answered, by its key."""
        return self._records.get(key)

    def count(self, known: bool, again: bool) -> None:
        """Counts a question of this job, and whether the ledger knew its answer."""
        self._asked += 1
        self._found += known
        self._again += again and not known

    def has_note(self, note: str, **values: Any) -> bool:
        """Whether something was noted that holds for later jobs too."""
        return any({"note": note, **values}.items() <= record.items() for record in self._notes)

    def note(self, note: str, **values: Any) -> None:
        """Notes something that holds for later jobs too."""
        if not self.has_note(note, **values):
            self._notes.append({"note": note, **values})
            self._append({"note": note, **values})

    def reserve(self) -> None:
        """Counts a request that is about to be sent, if the caps allow it.

        Its cost is not known yet: as much as the dearest request so far is set aside for it.

        Raises:
            StudyError: A cap is reached.
        """
        held = self._cost + (self._open + 1) * self._dearest
        reached = None
        if self.caps.calls is not None and self._sent + self._open >= self.caps.calls:
            reached = ("max_calls", f"{self._sent + self._open} requests were sent, and {self.caps.calls} are allowed")
        if self.caps.cost is not None and (self._cost >= self.caps.cost or held > self.caps.cost):
            reached = ("max_cost", f"{self._cost:.4g} of {self.caps.cost:.4g} is spent")
        if reached is not None:
            key, words = reached
            kept = f"what was answered is kept in {self.folder}, and not asked for again"
            remedy = f"raise explanations.reader.{key} and run again: it goes on where it stopped"
            raise StudyError(f"the cap {key} is reached: {words}; {kept}", f"explanations.reader.{key}", remedy)
        self._open += 1

    def add(self, record: Record) -> None:
        """Keeps what became of a question: `key`, `reply` or `error`, `attempts`, tokens, cost.

        Raises:
            StudyError: The endpoint does not say how many tokens it took, and the cost is capped.
        """
        self._append({**record, "time": datetime.now(UTC).isoformat(timespec="seconds")})
        self._open -= record["attempts"]
        self._requests += record["attempts"]
        self._take(record)
        if record.get("error") is not None:
            self._failed += 1
        elif self.caps.cost is not None and record.get("cost") is None:
            what = "the endpoint does not say how many tokens it took, so the cost cannot be capped"
            raise StudyError(what, "explanations.reader.max_cost", "set max_cost: null, and max_calls instead")

    def counts(self) -> Record:
        """What this job did so far."""
        values = (self._asked, self._found, self._requests, self._failed, self._again)
        return dict(zip(COUNTS, values, strict=True))

    def summary(self) -> str:
        """What this job did, in words, and what all jobs have spent."""
        own = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.counts().items())
        return f"{own}; all jobs: requests {self._sent}, cost {self._cost:.6g}"

    def _load(self) -> None:
        self._clear()
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            records, torn = _read(path)
            if torn:
                print(f"{path}: {torn} line(s) that a stopped job left unfinished are passed over")
            for record in records:
                if "note" in record:
                    self._notes.append(record)
                else:
                    self._take(record)

    def _take(self, record: Record) -> None:
        """Adds a record to what is known and spent."""
        if record.get("error") is None:
            self._records[record["key"]] = record
        self._sent += record["attempts"]
        cost = record.get("cost") or 0.0
        self._cost += cost
        self._dearest = max(self._dearest, cost)

    def _append(self, record: Record) -> None:
        """Writes a line, which a killed job keeps from then on; a power cut may cost those of the last moment."""
        data = memoryview((json.dumps(record, ensure_ascii=True) + "\n").encode("ascii"))
        while data:
            data = data[self._stream.write(data) :]
        if not self._waiting and self._syncing is not None:
            self._waiting = True
            self._syncing.submit(self._sync)

    def _sync(self) -> None:
        # Cleared first: a line written from now on asks for another round.
        self._waiting = False
        os.fsync(self._stream.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other jobs from a ledger while the block lasts; a killed job's lock goes with it."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another job that asks the same reader", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> tuple[list[Record], int]:
    """The records of a file, and how many of its lines are none."""
    records, torn = [], 0
    for line in path.read_bytes().split(b"\n"):
        if line:
            try:
                record = json.loads(line)
                valid = isinstance(record, dict) and ("note" in record or {"key", "attempts"} <= record.keys())
            except ValueError:
                valid = False
            torn += not valid
            if valid:
                records.append(record)
    return records, torn


def ledger_summary(root: str | os.PathLike[str], model: str | None = None) -> pd.DataFrame:
    """What was asked and spent, by reader and job.

    Args:
        root: The folder of all ledgers; it need not exist, as readers that ask nobody keep none.
        model: Only jobs of this model.

    Returns:
        `reader model patches rule explanation` (`patches`: the set, blank for the frozen sample), `questions` (of all
        runs of the job), `from_ledger` (those whose answer was there already), `requests` (sent, repeats among them),
        `failed`, `asked_again` (as the first reply was unreadable), `input_tokens output_tokens cost` (blank where the
        endpoint does not say).
    """
    rows = []
    for path in sorted(Path(root).glob(f"*/*{SUFFIX}")):
        job = [*path.name.removesuffix(SUFFIX).split(".", 2), ""][:3]
        asker, _, patches = job[0].partition(SET)
        if model is not None and asker != model:
            continue
        records, _ = _read(path)
        asked = [record for record in records if "note" not in record]
        jobs = [record for record in records if record.get("note") == "job"]
        row: Record = {"reader": path.parent.name, "model": asker, "patches": patches}
        row |= {"rule": job[1], "explanation": job[2]}
        row |= {name: sum(record[name] for record in jobs) for name in COUNTS}
        # Of a killed job only the questions themselves tell.
        row["requests"] = sum(record["attempts"] for record in asked)
        row["failed"] = sum(record.get("error") is not None for record in asked)
        for name in TOKENS:
            known = [record[name] for record in asked if record.get(name) is not None]
            row[name] = sum(known) if known else None
        rows.append(row)
    return pd.DataFrame(rows, columns=["reader", "model", "patches", "rule", "explanation", *COUNTS, *TOKENS])
