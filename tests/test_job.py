"""What a rule's script shares: a user's mistake is one message in the log, a mistake of ours keeps its traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from slidestudy.errors import Problem, SlideError, StudyError, Reason
from slidestudy.files import atomic_path
from slidestudy.job import rule_script

print("before")
with rule_script(sys.argv[1]):
    print("working")
    print("warned", file=sys.stderr)
    {body}
print("after")
"""


def run(log: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs a script whose rule does `body`."""
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    command = [sys.executable, "-c", SCRIPT.format(body=body), str(log)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_what_a_script_prints_goes_to_its_log_and_back_afterwards(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "rule" / "s1.log"
    done = run(log, "pass")
    assert (done.returncode, done.stderr) == (0, "")
    assert "after" in done.stdout
    assert "working" not in done.stdout
    assert log.read_text() == "working\nwarned\n"


def test_a_users_mistake_ends_the_script_with_one_message(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    done = run(log, "raise StudyError('is no slide', 'slides.tsv, line 3', 'correct the path')")
    assert done.returncode == 1
    assert "after" not in done.stdout
    assert done.stderr == ""
    text = log.read_text()
    assert text == "working\nwarned\nERROR: slides.tsv, line 3: is no slide\n    remedy: correct the path\n"
    assert "Traceback" not in text


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    done = run(log, "raise StudyError.of([Problem('a', 'is wrong'), Problem('b', 'is wrong too')])")
    assert done.returncode == 1
    text = log.read_text()
    assert text.count("ERROR:") == 1
    assert "1. a: is wrong\n" in text
    assert "2. b: is wrong too\n" in text


def test_a_slide_that_fails_unforeseen_is_a_message_too(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    done = run(log, "raise SlideError(Reason.TRUNCATED, 'ends early', 's1')")
    assert done.returncode == 1
    assert "ERROR: s1: ends early\n" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_mistake_leaves_no_partial_output(tmp_path: Path) -> None:
    target = tmp_path / "out" / "table.tsv"
    body = f"""
    with atomic_path({str(target)!r}) as partial:
        partial.write_text("half")
        raise StudyError("the other half is missing")
    """
    done = run(tmp_path / "rule.log", body)
    assert done.returncode == 1
    assert list(target.parent.iterdir()) == []


def test_a_mistake_of_ours_keeps_its_traceback_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    done = run(log, "[].pop()")
    assert done.returncode != 0
    assert "after" not in done.stdout
    assert f"unexpected error, see {log}" in done.stderr
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "IndexError: pop from empty list" in text


def test_a_new_run_replaces_the_log_of_the_last(tmp_path: Path) -> None:
    log = tmp_path / "rule.log"
    log.write_text("old\n" * 100)
    run(log, "pass")
    assert "old" not in log.read_text()
