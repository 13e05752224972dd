import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.loopback import Endpoint, Reply, completion, refusal, serve

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import AnswerStatus, Conclusion
from slidestudy.explanations.protocol import Patch
from slidestudy.explanations.vlm import FAILED_DESCRIPTION, VlmReader, VlmSettings, data_url, fill_template

PROMPTS = Path(__file__).resolve().parents[2] / "config" / "prompts"
KEY_NAME = "SLIDESTUDY_TEST_KEY"
RGB = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
PATCH = Patch("s1-0-0", RGB, 0.5)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv(KEY_NAME, "secret-key")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serve() as state:
        yield state


@pytest.fixture
def reader(endpoint: Endpoint) -> Callable[..., VlmReader]:
    def make(**changes: Any) -> VlmReader:
        values: dict[str, Any] = {
            "model": "test-model",
            "describe_prompt": PROMPTS / "describe.txt",
            "answer_prompt": PROMPTS / "answer.txt",
            "base_url": endpoint.url,
            "api_key_env": KEY_NAME,
            "retries": 0,
            "timeout": 10.0,
        }
        return VlmReader(VlmSettings(**(values | changes)))

    return make


def test_the_image_and_prompt_of_a_patch_reach_the_model(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [completion("Crowded nuclei.")]
    asked = reader(temperature=0.3, seed=7, max_tokens=99)
    assert asked.describe_patches([PATCH]) == ["Crowded nuclei."]
    (request,) = endpoint.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["temperature"], request["seed"], request["max_tokens"]) == (
        "test-model",
        0.3,
        7,
        99,
    )
    text, image = request["messages"][0]["content"]
    assert text["text"] == (PROMPTS / "describe.txt").read_text(encoding="utf-8").strip()
    header, _, encoded = image["image_url"]["url"].partition(",")
    assert header == "data:image/png;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], RGB)
    assert endpoint.keys == ["Bearer secret-key"]


def test_answering_sends_the_two_texts_and_no_image(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [completion("Many lymphocytes.\n**CONCLUSION=VERY HIGH**")]
    answer = reader().answer("p1", "many {explanation} here", "Lymphocytes raise it.<!-- note to self -->")
    assert (answer.patch_id, answer.status, answer.conclusion) == (
        "p1",
        AnswerStatus.ANSWERED,
        Conclusion.VERY_HIGH,
    )
    assert answer.raw.startswith("Many lymphocytes.")
    content = endpoint.requests[0]["messages"][0]["content"]
    assert isinstance(content, str)
    assert "many {explanation} here" in content
    assert "Lymphocytes raise it." in content
    assert "note to self" not in content
    assert "{description}" not in content


def test_abstentions_and_unreadable_answers_are_kept_apart(
    endpoint: Endpoint, reader: Callable[..., VlmReader]
) -> None:
    endpoint.replies = [completion("CONCLUSION=ABSTAIN"), completion("I would say high.")]
    asked = reader()
    assert asked.answer("p", "d", "e").status is AnswerStatus.ABSTAINED
    assert asked.answer("p", "d", "e").status is AnswerStatus.UNPARSED


def test_no_seed_is_sent_when_none_is_set(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [completion("text")]
    reader(seed=None).describe_patches([PATCH])
    assert "seed" not in endpoint.requests[0]


def test_a_wrong_key_stops_at_the_first_call_with_one_message(
    endpoint: Endpoint, reader: Callable[..., VlmReader]
) -> None:
    endpoint.replies = [refusal(401)]
    with pytest.raises(StudyError, match=f"(?s)refused the key.*{KEY_NAME}") as caught:
        reader().describe_patches([PATCH, PATCH])
    assert len(endpoint.requests) == 1
    assert "secret-key" not in str(caught.value)


def test_an_unknown_model_stops_at_the_first_call(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [refusal(404)]
    with pytest.raises(StudyError, match="does not know the model test-model"):
        reader().answer("p", "d", "e")


def test_an_unreachable_endpoint_stops_at_the_first_call(reader: Callable[..., VlmReader]) -> None:
    with pytest.raises(StudyError, match="cannot be reached"):
        reader(base_url="http://127.0.0.1:9/v1").describe_patches([PATCH])


def test_a_key_refused_later_costs_that_question_only(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [completion("fine"), refusal(401), completion("fine again")]
    texts = reader().describe_patches([PATCH, PATCH, PATCH])
    assert [text.startswith(FAILED_DESCRIPTION) for text in texts] == [False, True, False]
    assert "401" in texts[1]


def test_a_server_error_is_retried(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [refusal(500), completion("CONCLUSION=VERY LOW")]
    answer = reader(retries=1).answer("p", "d", "e")
    assert answer.conclusion is Conclusion.VERY_LOW
    assert len(endpoint.requests) == 2


def test_a_server_error_that_lasts_gives_a_failed_answer_with_the_reason(
    endpoint: Endpoint, reader: Callable[..., VlmReader]
) -> None:
    endpoint.replies = [refusal(500)]
    answer = reader(retries=1).answer("p", "d", "e")
    assert answer.status is AnswerStatus.FAILED
    assert "refused with 500" in answer.raw
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (200, b"<html>not an API</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"choices": []}'),
        (200, b'{"choices": [{"message": {"content": 3}}]}'),
        completion(None),
        completion("  \n"),
    ],
)
def test_a_reply_without_text_is_a_failure_not_a_crash(
    reply: Reply, endpoint: Endpoint, reader: Callable[..., VlmReader]
) -> None:
    endpoint.replies = [reply]
    answer = reader().answer("p", "d", "e")
    assert answer.status is AnswerStatus.FAILED
    assert answer.raw


def test_a_patch_without_a_description_is_not_asked_about(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [refusal(500)]
    asked = reader()
    (description,) = asked.describe_patches([PATCH])
    before = len(endpoint.requests)
    answer = asked.answer("p", description, "e")
    assert answer.status is AnswerStatus.FAILED
    assert "refused with 500" in answer.raw
    assert len(endpoint.requests) == before


def test_a_key_that_is_not_exported_is_a_user_error(
    reader: Callable[..., VlmReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_NAME)
    with pytest.raises(StudyError, match=KEY_NAME):
        reader()


def test_an_endpoint_without_keys_needs_no_variable(endpoint: Endpoint, reader: Callable[..., VlmReader]) -> None:
    endpoint.replies = [completion("seen")]
    assert reader(api_key_env=None).describe_patches([PATCH]) == ["seen"]


def test_prompts_are_checked_before_anything_is_sent(tmp_path: Path, reader: Callable[..., VlmReader]) -> None:
    prompt = tmp_path / "answer.txt"
    with pytest.raises(StudyError, match=r"answer\.txt"):
        reader(answer_prompt=prompt)
    prompt.write_text("Only {description}.")
    with pytest.raises(StudyError, match=r"lacks \{explanation\}"):
        reader(answer_prompt=prompt)
    prompt.write_text("\n")
    with pytest.raises(StudyError, match="empty"):
        reader(describe_prompt=prompt)


def test_jpeg_is_sent_as_jpeg_and_other_formats_are_refused(reader: Callable[..., VlmReader]) -> None:
    assert base64.b64decode(data_url(RGB, "jpeg").removeprefix("data:image/jpeg;base64,"))[:2] == b"\xff\xd8"
    with pytest.raises(StudyError, match="gif"):
        reader(image_format="gif")


def test_braces_inside_the_texts_are_not_fields() -> None:
    fields = {"description": "{explanation} {x}", "explanation": "{description}"}
    assert fill_template("{description}|{explanation}|{other}", fields) == "{explanation} {x}|{description}|{other}"
