"""A real HTTP server on loopback, driven by the official client: what is sent, and what becomes of every failure."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
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
from slidestudy.explanations.answers import AnswerStatus, Conclusion
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Question
from slidestudy.explanations.readers.vision_language import FAILED_DESCRIPTION

HIGH = "Many lymphocytes.\nCONCLUSION=VERY HIGH"


def pictures(request: dict[str, Any]) -> list[np.ndarray]:
    """The images of a request, RGB."""
    content = request["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    data = [np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8) for url in urls]
    return [cv2.imdecode(each, cv2.IMREAD_COLOR)[..., ::-1] for each in data]


def test_the_image_and_prompt_of_a_patch_reach_the_model(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("Crowded nuclei.")]
    reader = openai_reader(endpoint.url, tmp_path, temperature=0.3, seed=7, max_tokens=99)
    assert (reader.name, reader.is_vlm, reader.needs_images) == ("openai:test-model", True, False)
    assert reader.describe_patches([patch()]) == ["Crowded nuclei."]
    (request,) = endpoint.requests
    sent = [request[key] for key in ("path", "model", "temperature", "seed", "max_tokens")]
    assert sent == ["/v1/chat/completions", "test-model", 0.3, 7, 99]
    text = request["messages"][0]["content"][0]["text"]
    before, _, after = (PROMPTS / "describe.j2").read_text(encoding="utf-8").partition("{% if")
    assert text == (before + after.partition("{% endif %}\n")[2]).strip()
    assert "{" not in text
    (image,) = pictures(request)
    np.testing.assert_array_equal(image, patch().rgb)
    assert endpoint.keys == [f"Bearer {KEY}"]


def test_the_images_that_are_chosen_are_shown_in_their_order(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("seen")]
    shown = {"normalised": patch(1).rgb, "heatmaps": {"gradcam_output": patch(2).rgb}}
    reader = openai_reader(endpoint.url, tmp_path, images=["rgb", "gradcam_output", "normalised"])
    reader.describe_patches([patch(0, **shown)])
    for found, number in zip(pictures(endpoint.requests[0]), (0, 2, 1), strict=True):
        np.testing.assert_array_equal(found, patch(number).rgb)
    assert "rgb, gradcam_output, normalised" in endpoint.requests[0]["messages"][0]["content"][0]["text"]
    with pytest.raises(StudyError, match=r"has no image gradcam_output, normalised(?s:.*)it has: rgb"):
        reader.describe_patches([patch(0)])
    assert len(endpoint.requests) == 1


def test_answering_sends_the_two_texts_and_no_image(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("Many lymphocytes.\n**CONCLUSION=VERY HIGH**")]
    question = Question("p1", "many {{ explanation }} here", None)
    explanation = said("Lymphocytes raise it.<!-- note to self -->", higher=("small dark nuclei",))
    (answer,) = openai_reader(endpoint.url, tmp_path).answer_all([question], explanation)
    assert (answer.patch_id, answer.status, answer.conclusion) == ("p1", AnswerStatus.ANSWERED, Conclusion.VERY_HIGH)
    assert answer.raw.startswith("Many lymphocytes.")
    content = endpoint.requests[0]["messages"][0]["content"]
    for part in ("many {{ explanation }} here", "Lymphocytes raise it.", "- small dark nuclei", "CONCLUSION=ABSTAIN"):
        assert part in content
    assert "note to self" not in content
    assert "response_format" not in endpoint.requests[0]


def test_without_an_explanation_the_patch_is_shown_and_no_text(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion(HIGH)]
    reader = openai_reader(endpoint.url, tmp_path)
    (answer,) = reader.answer_all([Question("p", "", patch(3))], said(name=IMAGE_ONLY))
    assert answer.conclusion is Conclusion.VERY_HIGH
    (image,) = pictures(endpoint.requests[0])
    np.testing.assert_array_equal(image, patch(3).rgb)
    assert "Explanation of the model" not in endpoint.requests[0]["messages"][0]["content"][0]["text"]
    with pytest.raises(ValueError, match="needs the patch"):
        reader.answer_all([Question("p", "", None)], said(name=IMAGE_ONLY))


def test_the_empty_control_is_asked_and_says_so(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("CONCLUSION=ABSTAIN")]
    (answer,) = openai_reader(endpoint.url, tmp_path).answer_all(questions(1), said(name="control.empty"))
    assert answer.status is AnswerStatus.ABSTAINED
    assert "(There is none.)" in endpoint.requests[0]["messages"][0]["content"]


def test_answers_come_in_the_order_of_the_questions_whatever_the_order_of_the_replies(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    def respond(request: dict[str, Any]) -> Reply:
        number = int(re.findall(r"^description (\d+)$", request["messages"][0]["content"], re.MULTILINE)[0])
        return completion(f"{number}\nCONCLUSION=VERY HIGH", wait=0.05 * (number % 3))

    endpoint.respond = respond
    answers = openai_reader(endpoint.url, tmp_path, concurrency=4).answer_all(questions(12), LYMPHOCYTES)
    assert [answer.patch_id for answer in answers] == [f"p{i}" for i in range(12)]
    assert [answer.raw.split("\n")[0] for answer in answers] == [str(i) for i in range(12)]
    assert endpoint.most == 4


def test_each_repeat_is_asked_anew_with_another_seed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion(HIGH)]
    answers = openai_reader(endpoint.url, tmp_path, seed=5).answer_all(questions(2, repeats=3), LYMPHOCYTES)
    assert [answer.repeat for answer in answers] == [0, 0, 1, 1, 2, 2]
    assert sorted(request["seed"] for request in endpoint.requests) == [5, 5, 6, 6, 7, 7]


def test_what_is_not_set_is_not_sent(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion("text")]
    openai_reader(endpoint.url, tmp_path, seed=None, temperature=None).describe_patches([patch()])
    assert not {"seed", "temperature"} & set(endpoint.requests[0])


def test_a_model_that_wants_the_other_name_of_the_limit_gets_it(endpoint: Endpoint, tmp_path: Path) -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    endpoint.respond = lambda request: refusal(400, message) if "max_tokens" in request else completion(HIGH)
    reader = openai_reader(endpoint.url, tmp_path, concurrency=1, max_tokens=33)
    assert all(answer.conclusion for answer in reader.answer_all(questions(3), LYMPHOCYTES))
    assert [request.get("max_completion_tokens") for request in endpoint.requests] == [None, 33, 33, 33]


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refused the key"), (403, "refused the key"), (404, "does not know the model")]
)
def test_a_wrong_key_or_model_stops_the_run_with_one_message(
    endpoint: Endpoint, tmp_path: Path, status: int, message: str
) -> None:
    endpoint.replies = [refusal(status)]
    with pytest.raises(StudyError, match=message) as caught:
        openai_reader(endpoint.url, tmp_path, retries=3, concurrency=2).answer_all(questions(50), LYMPHOCYTES)
    assert len(endpoint.requests) <= 4
    assert len(caught.value.problems) == 1
    assert (KEY_NAME in str(caught.value)) is (status != 404)


def test_a_request_that_is_refused_from_the_start_stops_the_run(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [refusal(400, "temperature is not supported")]
    with pytest.raises(StudyError, match=r"refused the request(?s:.*)temperature is not supported"):
        openai_reader(endpoint.url, tmp_path, concurrency=2).answer_all(questions(50), LYMPHOCYTES)
    assert len(endpoint.requests) <= 4


def test_an_unreachable_endpoint_stops_the_run(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be reached"):
        openai_reader("http://127.0.0.1:9/v1", tmp_path, retries=1).describe_patches([patch()])


def test_an_address_that_is_no_api_stops_the_run(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [Reply(200, b"<html>Welcome</html>")]
    with pytest.raises(StudyError, match="it usually ends in /v1"):
        openai_reader(endpoint.url, tmp_path).answer_all(questions(3), LYMPHOCYTES)


def test_a_question_that_is_refused_later_costs_that_question_only(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion(HIGH), refusal(400, "content filter"), completion(HIGH)]
    answers = openai_reader(endpoint.url, tmp_path, concurrency=1).answer_all(questions(3), LYMPHOCYTES)
    assert [answer.status.value for answer in answers] == ["answered", "failed", "answered"]
    assert "content filter" in answers[1].raw


def test_an_endpoint_that_falls_silent_stops_the_run_and_what_was_answered_is_kept(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.replies = [*[completion(HIGH)] * 5, refusal(503)]
    with pytest.raises(StudyError, match=r"10 questions in a row(?s:.*)503(?s:.*)not asked again"):
        openai_reader(endpoint.url, tmp_path, concurrency=1).answer_all(questions(40), LYMPHOCYTES)
    assert len(endpoint.requests) == 15
    endpoint.replies = [completion(HIGH)]
    answers = openai_reader(endpoint.url, tmp_path).answer_all(questions(40), LYMPHOCYTES)
    assert all(answer.conclusion for answer in answers)
    assert len(endpoint.requests) == 15 + 35


PASSING: dict[str, Reply] = {
    "500": refusal(500),
    "503": refusal(503),
    "429": refusal(429),
    "timeout": completion(HIGH, wait=1.5),
    "reset": completion(HIGH, reset=True),
    "cut body": completion(HIGH, cut=40),
    "cut at once": completion(HIGH, cut=0),
    "not JSON": Reply(200, b'{"choices": [{"mess'),
    "no completion": Reply(200, b"{}"),
    "a list": Reply(200, b"[]"),
    "no choice": Reply(200, b'{"choices": []}'),
    "no text but a number": Reply(200, b'{"choices": [{"message": {"content": 3}}]}'),
    "slow bytes": completion(HIGH, trickle=0.05),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_passes_is_retried(endpoint: Endpoint, tmp_path: Path, name: str) -> None:
    endpoint.replies = [PASSING[name], PASSING[name], completion(HIGH)]
    reader = openai_reader(endpoint.url, tmp_path, retries=2, timeout=0.4)
    (answer,) = reader.answer_all(questions(1), LYMPHOCYTES)
    assert answer.conclusion is Conclusion.VERY_HIGH
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_lasts_gives_a_failed_answer_with_the_reason(
    endpoint: Endpoint, tmp_path: Path, name: str
) -> None:
    endpoint.replies = [completion(HIGH), PASSING[name]]
    reader = openai_reader(endpoint.url, tmp_path, retries=1, timeout=0.4, concurrency=1)
    answers = reader.answer_all(questions(2), LYMPHOCYTES)
    assert answers[0].conclusion is Conclusion.VERY_HIGH
    assert answers[1].status is AnswerStatus.FAILED
    assert answers[1].raw
    assert len(endpoint.requests) == 3


def test_bytes_that_trickle_in_do_not_outlast_the_timeout(endpoint: Endpoint, tmp_path: Path) -> None:
    # Each byte comes in time, the body as a whole would take ten seconds.
    endpoint.replies = [completion(HIGH), completion("x" * 100, trickle=0.05)]
    reader = openai_reader(endpoint.url, tmp_path, timeout=0.5, concurrency=1)
    started = time.monotonic()
    answers = reader.answer_all(questions(2), LYMPHOCYTES)
    assert answers[1].raw == "no reply within 0.5 s"
    assert time.monotonic() - started < 5


def test_an_endpoint_that_asks_for_a_pause_gets_it_from_all_questions(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [refusal(429, headers={"Retry-After": "0.7"}), completion(HIGH)]
    reader = openai_reader(endpoint.url, tmp_path, retries=1, concurrency=1)
    answers = reader.answer_all(questions(4), LYMPHOCYTES)
    assert all(answer.conclusion for answer in answers)
    assert endpoint.times[1] - endpoint.times[0] >= 0.7


def test_no_more_requests_per_minute_are_sent_than_allowed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion(HIGH)]
    openai_reader(endpoint.url, tmp_path, requests_per_minute=600).answer_all(questions(6), LYMPHOCYTES)
    gaps = np.diff(endpoint.times)
    assert gaps.min() > 0.05
    assert gaps.sum() >= 0.48


@pytest.mark.parametrize("reply", ["I would say high.", "", None, "CONCLUSION=QUITE HIGH"])
def test_a_reply_that_cannot_be_read_is_asked_for_once_more_and_counts_as_unparsed(
    endpoint: Endpoint, tmp_path: Path, reply: str | None
) -> None:
    endpoint.replies = [completion(reply), completion(HIGH), completion(reply)]
    reader = openai_reader(endpoint.url, tmp_path, concurrency=1, seed=1)
    answers = reader.answer_all(questions(2), LYMPHOCYTES)
    assert [answer.status for answer in answers] == [AnswerStatus.ANSWERED, AnswerStatus.UNPARSED]
    assert answers[1].raw == (reply or "")
    assert [request["seed"] for request in endpoint.requests] == [1, 1_000_001, 1, 1_000_001]
    again = openai_reader(endpoint.url, tmp_path, seed=1).answer_all(questions(2), LYMPHOCYTES)
    assert again == answers
    assert len(endpoint.requests) == 4


def test_a_patch_that_gets_no_text_has_a_failed_description_and_is_not_asked_about(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.replies = [completion("  \n")]
    reader = openai_reader(endpoint.url, tmp_path)
    (description,) = reader.describe_patches([patch()])
    assert description == f"{FAILED_DESCRIPTION}the model returned no text"
    assert len(endpoint.requests) == 2
    (answer,) = reader.answer_all([Question("p", description, None)], LYMPHOCYTES)
    assert (answer.status, answer.raw) == (AnswerStatus.FAILED, description)
    assert len(endpoint.requests) == 2


def structured(conclusion: str, probability: Any = 0.9) -> str:
    return json.dumps({"reasoning": "r", "conclusion": conclusion, "probability_high": probability})


def test_a_schema_is_asked_for_where_the_endpoint_takes_one(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.replies = [completion(structured("HIGH NEAR BOUNDARY", 0.625))]
    (answer,) = openai_reader(endpoint.url, tmp_path, structured="auto").answer_all(questions(1), LYMPHOCYTES)
    assert (answer.conclusion, answer.probability) == (Conclusion.HIGH_NEAR_BOUNDARY, 0.625)
    wanted = endpoint.requests[0]["response_format"]["json_schema"]["schema"]["properties"]["conclusion"]["enum"]
    assert set(wanted) == {*(conclusion.value for conclusion in Conclusion), "ABSTAIN"}
    text = endpoint.requests[0]["messages"][0]["content"]
    assert '"probability_high"' in text
    assert "CONCLUSION=" not in text


def _no_schema(request: dict[str, Any]) -> Reply:
    return refusal(400, "response_format is unsupported") if "response_format" in request else completion(HIGH)


def test_an_endpoint_that_refuses_a_schema_is_asked_for_a_line_and_that_is_remembered(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.respond = _no_schema
    reader = openai_reader(endpoint.url, tmp_path, structured="auto", concurrency=1)
    assert all(answer.conclusion for answer in reader.answer_all(questions(5), LYMPHOCYTES))
    assert ["response_format" in request for request in endpoint.requests] == [True, *[False] * 5]
    assert capsys.readouterr().out.count("refuses JSON schemas") == 1
    notes = [json.loads(line) for path in tmp_path.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert [note["note"] for note in notes if "note" in note] == ["the endpoint refuses JSON schemas", "job"]
    later = openai_reader(endpoint.url, tmp_path, ("til", "rule", "other"), structured="auto")
    assert all(answer.conclusion for answer in later.answer_all(questions(3), said("Another text.")))
    assert "response_format" not in endpoint.requests[-1]
    assert len(endpoint.requests) == 9


def test_a_schema_that_must_be_used_and_is_refused_stops_the_run(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.respond = _no_schema
    with pytest.raises(StudyError, match="response_format is unsupported"):
        openai_reader(endpoint.url, tmp_path, structured="schema", concurrency=1).answer_all(questions(5), LYMPHOCYTES)


@pytest.mark.parametrize("text", ['{"reasoning": "r", "conclu', structured("MAYBE"), "[]", HIGH])
def test_a_structured_answer_that_is_cut_or_of_no_class_is_asked_for_once_more(
    endpoint: Endpoint, tmp_path: Path, text: str
) -> None:
    endpoint.replies = [completion(text), completion(structured("VERY LOW"))]
    (answer,) = openai_reader(endpoint.url, tmp_path, structured="auto").answer_all(questions(1), LYMPHOCYTES)
    assert answer.conclusion is Conclusion.VERY_LOW
    endpoint.replies = [completion(text)]
    (answer,) = openai_reader(endpoint.url, tmp_path, structured="auto").answer_all(questions(1), said("Other."))
    assert (answer.status, answer.raw) == (AnswerStatus.UNPARSED, text)
    assert len(endpoint.requests) == 4
