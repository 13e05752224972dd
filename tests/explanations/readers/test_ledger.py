"""The ledger: nothing is asked twice, nothing is lost, and no more is spent than allowed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.explanations.readers.vlm_readers import (
    KEY,
    KEY_NAME,
    LYMPHOCYTES,
    PROMPTS,
    openai_reader,
    patch,
    questions,
    said,
)
from tests.loopback import Endpoint, Reply, completion, refusal

from slidestudy.errors import StudyError
from slidestudy.explanations.ledger import Job, Ledger, ledger_summary, reader_folder
from slidestudy.files import file_digest

REPOSITORY = Path(__file__).resolve().parents[3]
HIGH = completion("CONCLUSION=VERY HIGH", tokens=(100, 10))


def records(folder: Path) -> list[dict[str, Any]]:
    """All records of all ledgers, without the notes."""
    lines = [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    return [line for line in lines if "note" not in line]


def prompts(endpoint: Endpoint) -> Counter[str]:
    """How often each question was asked."""
    return Counter(json.dumps([r["messages"], r.get("seed")]) for r in endpoint.requests)


def test_a_record_holds_the_question_the_answer_and_what_they_took_but_no_image_and_no_address(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.replies = [completion("seen", tokens=(1000, 20))]
    prices = {"price_per_million_input": 2.0, "price_per_million_output": 10.0}
    openai_reader(endpoint.url, tmp_path, ("til", "describe_patches", ""), **prices).describe_patches([patch()])
    (path,) = tmp_path.rglob("*.jsonl")
    assert path.relative_to(tmp_path) == Path("openai-test-model/til.describe_patches.jsonl")
    (record,) = records(tmp_path)
    text, image = record["request"]["messages"][0]["content"]
    assert "tissue section" in text["text"]
    assert set(image) == {"type", "name", "digest"}
    assert (record["request"]["model"], record["request"]["temperature"]) == ("test-model", 0.0)
    assert (record["reply"], record["attempts"], record["error"]) == ("seen", 1, None)
    assert record["prompt"] == file_digest(PROMPTS / "describe.j2")[:16]
    assert (record["input_tokens"], record["output_tokens"]) == (1000, 20)
    assert record["cost"] == pytest.approx(0.0022)
    assert "base64" not in path.read_text()
    assert "127.0.0.1" not in path.read_text()


def test_nothing_is_asked_twice_by_a_rerun_another_address_or_another_explanation_of_the_same_words(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.replies = [HIGH]
    first = openai_reader(endpoint.url, tmp_path).answer_all(questions(6), LYMPHOCYTES)
    assert openai_reader(endpoint.url, tmp_path).answer_all(questions(6), LYMPHOCYTES) == first
    moved = openai_reader("http://127.0.0.1:9/v1", tmp_path, timeout=1.0, concurrency=3)
    assert moved.answer_all(questions(6), LYMPHOCYTES) == first
    twin = openai_reader(endpoint.url, tmp_path, ("other", "answer", "twin"))
    assert twin.answer_all(questions(6), said("Lymphocytes raise the score.", name="twin")) == first
    assert len(endpoint.requests) == 6


def test_equal_questions_of_one_job_are_asked_once(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("CONCLUSION=VERY HIGH", wait=0.05)]
    same = [questions(1)[0]] * 5
    answers = openai_reader(endpoint.url, tmp_path).answer_all(same, LYMPHOCYTES)
    assert len(answers) == 5
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"seed": 3}, {"max_tokens": 7}, {"model": "other"}, {"structured": "schema"}]
)
def test_whatever_can_change_an_answer_makes_another_question(
    endpoint: Endpoint, tmp_path: Path, change: dict[str, Any]
) -> None:
    endpoint.replies = [HIGH]
    openai_reader(endpoint.url, tmp_path).answer_all(questions(1), LYMPHOCYTES)
    openai_reader(endpoint.url, tmp_path, **change).answer_all(questions(1), LYMPHOCYTES)
    assert len(endpoint.requests) > 1


def test_an_edited_prompt_asks_anew(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [HIGH]
    prompt = tmp_path / "answer.j2"
    for text in ("{{ description }} {{ explanation }}", "{{ explanation }} {{ description }}"):
        prompt.write_text(text)
        openai_reader(endpoint.url, tmp_path, answer_prompt=str(prompt)).answer_all(questions(1), LYMPHOCYTES)
    assert len(endpoint.requests) == 2


def test_a_failed_question_is_kept_and_asked_again_by_the_next_run(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [HIGH, refusal(500), refusal(500), HIGH]
    first = openai_reader(endpoint.url, tmp_path, concurrency=1, retries=1).answer_all(questions(2), LYMPHOCYTES)
    assert [answer.status.value for answer in first] == ["answered", "failed"]
    assert [(r["attempts"], r["error"] is None) for r in records(tmp_path)] == [(1, True), (2, False)]
    second = openai_reader(endpoint.url, tmp_path).answer_all(questions(2), LYMPHOCYTES)
    assert [answer.status.value for answer in second] == ["answered", "answered"]
    assert len(endpoint.requests) == 4


def test_the_cap_on_calls_counts_every_request_of_all_jobs_and_raising_it_goes_on(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.replies = [HIGH]
    openai_reader(endpoint.url, tmp_path, ("a", "rule", "x"), max_calls=10).answer_all(questions(4), LYMPHOCYTES)
    other = said("Another text.")
    with pytest.raises(
        StudyError,
        match=r"the cap max_calls is reached: 10 requests(?s:.*)is kept in(?s:.*)raise explanations.reader.max_calls",
    ):
        openai_reader(endpoint.url, tmp_path, ("b", "rule", "y"), max_calls=10).answer_all(questions(20), other)
    assert len(endpoint.requests) == 10
    reader = openai_reader(endpoint.url, tmp_path, ("b", "rule", "y"), max_calls=24)
    assert len(reader.answer_all(questions(20), other)) == 20
    assert len(endpoint.requests) == 24
    assert set(prompts(endpoint).values()) == {1}


def test_retries_count_as_calls(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [refusal(500)]
    with pytest.raises(StudyError, match="max_calls"):
        openai_reader(endpoint.url, tmp_path, max_calls=3, retries=10).answer_all(questions(1), LYMPHOCYTES)
    assert len(endpoint.requests) == 3
    with pytest.raises(StudyError, match="max_calls"):
        openai_reader(endpoint.url, tmp_path, max_calls=3, retries=10).answer_all(questions(1), LYMPHOCYTES)
    assert len(endpoint.requests) == 3


def test_the_cap_on_cost_holds(endpoint: Endpoint, tmp_path: Path) -> None:
    # 100 tokens in and 10 out are 0.00012 of the currency.
    endpoint.replies = [HIGH]
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 2.0, "max_cost": 0.001}
    with pytest.raises(StudyError, match="the cap max_cost is reached"):
        openai_reader(endpoint.url, tmp_path, concurrency=2, **prices).answer_all(questions(40), LYMPHOCYTES)
    assert len(endpoint.requests) == 8
    assert sum(record["cost"] for record in records(tmp_path)) <= 0.001


def test_a_cost_that_cannot_be_known_cannot_be_capped(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("CONCLUSION=VERY HIGH")]
    prices = {"price_per_million_input": 1.0, "max_cost": 5.0}
    with pytest.raises(StudyError, match="does not say how many tokens"):
        openai_reader(endpoint.url, tmp_path, concurrency=1, **prices).answer_all(questions(9), LYMPHOCYTES)
    assert len(endpoint.requests) == 1
    with pytest.raises(StudyError, match="no prices are given"):
        openai_reader(endpoint.url, tmp_path, max_cost=5.0)


@pytest.mark.parametrize("torn", [b'{"key": "abc", "atte', b"\xff\xfe", b"[1, 2]\n", b'{"key": 1}\n'])
def test_a_line_that_was_cut_is_passed_over_and_the_next_one_stands_alone(
    endpoint: Endpoint, tmp_path: Path, torn: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.replies = [HIGH]
    openai_reader(endpoint.url, tmp_path).answer_all(questions(3), LYMPHOCYTES)
    (path,) = tmp_path.rglob("*.jsonl")
    with path.open("ab") as stream:
        stream.write(torn)
    answers = openai_reader(endpoint.url, tmp_path).answer_all(questions(4), LYMPHOCYTES)
    assert len(answers) == 4
    assert len(endpoint.requests) == 4
    assert "1 line(s) that a stopped job left unfinished" in capsys.readouterr().out
    assert openai_reader(endpoint.url, tmp_path).answer_all(questions(4), LYMPHOCYTES) == answers
    assert len(endpoint.requests) == 4


def test_jobs_side_by_side_ask_each_question_once(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("CONCLUSION=VERY HIGH", wait=0.02)]
    found: dict[str, Any] = {}

    def work(name: str) -> None:
        reader = openai_reader(endpoint.url, tmp_path, ("til", "rule", name), max_calls=15)
        found[name] = reader.answer_all(questions(15), LYMPHOCYTES)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert found["a"] == found["b"] == found["c"]
    assert len(endpoint.requests) == 15


def test_the_summary_counts_by_job(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [HIGH, refusal(500), HIGH]
    prices = {"price_per_million_input": 1.0}
    for model in ("til", "til/sets/mine"):
        reader = openai_reader(endpoint.url, tmp_path, (model, "answer_from_explanation", "a.b"), retries=1, **prices)
        reader.answer_all(questions(4), LYMPHOCYTES if model == "til" else said("Else."))
    openai_reader(endpoint.url, tmp_path, ("til", "answer_from_explanation", "a.b")).answer_all(
        questions(4), LYMPHOCYTES
    )
    openai_reader(endpoint.url, tmp_path, ("other", "rule", "")).answer_all(questions(4), LYMPHOCYTES)
    table = ledger_summary(tmp_path, "til")
    assert list(table["patches"]) == ["", "mine"]
    first, second = table.to_dict("records")
    assert (first["reader"], first["rule"], first["explanation"]) == (
        "openai-test-model", "answer_from_explanation", "a.b",
    )  # fmt: skip
    assert [first[name] for name in ("questions", "from_ledger", "requests", "failed")] == [8, 4, 5, 0]
    assert (second["requests"], second["input_tokens"], second["output_tokens"]) == (4, 400, 40)
    assert second["cost"] == pytest.approx(0.0004)
    assert len(ledger_summary(tmp_path)) == 3
    assert ledger_summary(tmp_path / "none").empty


def test_a_readers_name_becomes_a_folder() -> None:
    assert reader_folder("/l", "openai:owner/model:7b").as_posix() == "/l/openai-owner-model-7b"
    assert reader_folder("/l", "../../x").as_posix() == "/l/x"


def test_lines_are_on_disk_before_the_job_ends(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "r", Job(tmp_path, "m", "rule"))
    with ledger.opened():
        ledger.reserve()
        ledger.add({"key": "k", "reply": "text", "error": None, "attempts": 1})
        assert [record["key"] for record in records(tmp_path)] == ["k"]


ASK = """
import sys
from pathlib import Path
from tests.explanations.readers.vlm_readers import LYMPHOCYTES, openai_reader, questions
reader = openai_reader(sys.argv[1], Path(sys.argv[2]), concurrency=4)
print(len([a for a in reader.answer_all(questions(60), LYMPHOCYTES) if a.conclusion]))
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("CONCLUSION=VERY HIGH", wait=0.05)]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "scripts")])
    environment = {**os.environ, KEY_NAME: KEY, "PYTHONPATH": paths}
    command = [sys.executable, "-c", ASK, endpoint.url, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(endpoint.requests) < 20:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = len(records(tmp_path))
    assert kept < 60
    time.sleep(0.2)
    sent = len(endpoint.requests)
    assert sent - kept <= 4
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "60"
    assert len(endpoint.requests) == sent + 60 - kept
    # Asked twice was at most what was under way when the run was killed.
    assert sum(count - 1 for count in prompts(endpoint).values()) == sent - kept


def test_an_endpoint_that_shows_the_key_everywhere_shows_it_to_nobody(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(status: int) -> Reply:
        body = json.dumps({"error": {"message": f"Authorization: Bearer {KEY} is bad", "headers": {"key": KEY}}})
        return Reply(status, body.encode(), {"X-Echo": KEY, "Www-Authenticate": f"Bearer {KEY}"})

    seen: list[str] = []
    endpoint.replies = [completion(f"The key is {KEY}.\nCONCLUSION=VERY HIGH"), shown(400), shown(500), shown(401)]
    reader = openai_reader(endpoint.url, tmp_path, concurrency=1)
    seen += [answer.raw for answer in reader.answer_all(questions(4), LYMPHOCYTES)]
    for status in (400, 401, 403, 404, 429, 500):
        endpoint.replies = [shown(status)]
        fresh = openai_reader(endpoint.url, tmp_path / str(status), concurrency=1)
        try:
            seen += [answer.raw for answer in fresh.answer_all(questions(12), LYMPHOCYTES)]
        except StudyError as error:
            seen += [str(error), repr(error.__cause__), repr(error.__context__)]
    endpoint.replies = [Reply(200, f'{{"choices": "{KEY}"}}'.encode())]
    with pytest.raises(StudyError) as caught:
        openai_reader(endpoint.url, tmp_path / "x").answer_all(questions(1), LYMPHOCYTES)
    seen += [str(caught.value), repr(reader.__dict__), repr(reader._channel.__dict__)]
    output = capsys.readouterr()
    seen += [output.out, output.err, *(path.read_text() for path in tmp_path.rglob("*.jsonl"))]
    assert any("[key]" in text for text in seen)
    assert all(key == f"Bearer {KEY}" for key in endpoint.keys)
    for text in seen:
        assert KEY not in text


def test_a_key_that_is_not_exported_or_cannot_be_sent_is_a_user_error(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, f"{KEY}\n")
    endpoint.replies = [HIGH]
    openai_reader(endpoint.url, tmp_path).answer_all(questions(1), LYMPHOCYTES)
    assert endpoint.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv(KEY_NAME, "two words-of-a-key")
    with pytest.raises(StudyError, match="blanks") as caught:
        openai_reader(endpoint.url, tmp_path)
    assert "two" not in str(caught.value)
    monkeypatch.delenv(KEY_NAME)
    with pytest.raises(StudyError, match=KEY_NAME):
        openai_reader(endpoint.url, tmp_path)
    openai_reader(endpoint.url, tmp_path, api_key_env=None).answer_all(questions(2), LYMPHOCYTES)
    assert endpoint.keys[-1] == "Bearer none"
