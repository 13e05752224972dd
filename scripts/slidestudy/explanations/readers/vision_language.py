"""A reader that asks a vision-language model, wherever it runs.

The model sees a patch once, to describe it; the answer is then predicted from the description and the explanation
alone (X2X, arXiv 2508.09205). In the control without an explanation it sees the patch and predicts from that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from slidestudy.explanations.answers import Answer, AnswerStatus, answer_from_text
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.ledger import Caps, Job, Ledger, reader_folder
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question
from slidestudy.explanations.readers.asking import Asker
from slidestudy.explanations.readers.calls import Call, CallFailed, Channel, Reply
from slidestudy.explanations.readers.images import chosen_images
from slidestudy.explanations.readers.prompts import read_prompts
from slidestudy.explanations.readers.structured import answer_from_json

__all__ = ["FAILED_DESCRIPTION", "VlmReader", "VlmSettings"]

FAILED_DESCRIPTION = "DESCRIPTION FAILED: "
"""How the text of a patch begins that the model could not be asked about; the reason follows."""
T = TypeVar("T")
R = TypeVar("R")
NO_TEXT = "the model returned no text"
NO_EXPLANATION = "(There is none.)"
"""What stands in the prompt where the explanation is blank, in the control of that."""


@dataclass(frozen=True)
class VlmSettings:
    """What a vision-language model is shown and asked.

    Attributes:
        describe_prompt: The prompt file of descriptions.
        answer_prompt: That of answers from a description and an explanation.
        image_only_prompt: That of answers from a patch alone.
        images: Names of the images shown, in this order: `rgb`, `normalised`, or heatmaps.
    """

    describe_prompt: Path
    answer_prompt: Path
    image_only_prompt: Path
    images: tuple[str, ...] = ("rgb",)


class VlmReader:
    """Describes patches, and answers from their descriptions, with a vision-language model.

    A question that fails after all retries costs that question only: it is recorded as failed, with the reason. A
    reply that cannot be read is asked for once more, and then counts as unparsed.

    Args:
        channel: The way to the model.
        name: The model's name for people.
        settings: What it is shown and asked.
        job: The job that asks.
        caps: How much may be spent.

    Raises:
        StudyError: A prompt cannot be used.
    """

    is_vlm = True
    needs_images = False

    def __init__(self, channel: Channel, name: str, settings: VlmSettings, job: Job, caps: Caps | None = None) -> None:
        self.name = f"{channel.kind}:{name}"
        self.settings, self._channel = settings, channel
        paths = {key: getattr(settings, key) for key in ("describe_prompt", "answer_prompt", "image_only_prompt")}
        self._prompts = read_prompts(paths)
        self._ledger = Ledger(reader_folder(job.root, self.name), job, caps or Caps())

    def describe_patches(self, patches: Sequence[Patch]) -> list[str]:
        """Describe each patch by itself; a failed call gives `FAILED_DESCRIPTION` and its reason.

        Raises:
            StudyError: A patch lacks an image, the endpoint cannot be used at all, or a cap is reached.
        """
        calls = [self._picture_call(patch, "describe_prompt") for patch in patches]

        async def describe(asker: Asker, call: Call) -> str:
            try:
                reply = await asker.ask(partial(_as_is, call))
                if not reply.text.strip():
                    reply = await asker.ask(partial(_as_is, replace(call, again=True)))
            except CallFailed as failure:
                return f"{FAILED_DESCRIPTION}{failure.reason}"
            return reply.text if reply.text.strip() else f"{FAILED_DESCRIPTION}{NO_TEXT}"

        return self._all(describe, calls)

    def answer_all(self, questions: Sequence[Question], explanation: Explanation) -> list[Answer]:
        """Predict the score of every patch from its description and the explanation, which are all the model is sent.

        Raises:
            StudyError: As `describe_patches`.
        """
        alone = explanation.name == IMAGE_ONLY
        text = explanation.text or NO_EXPLANATION

        async def answer(asker: Asker, question: Question) -> Answer:
            form = partial(self._alone if alone else self._from_texts, question, text)
            if question.description.startswith(FAILED_DESCRIPTION) and not alone:
                found = Answer(question.patch_id, AnswerStatus.FAILED, None, question.description)
            else:
                found = await _answer(asker, question.patch_id, form, self._channel.repeatable)
            return replace(found, repeat=question.repeat)

        return self._all(answer, questions)

    def _all(self, ask: Callable[[Asker, T], Awaitable[R]], about: Sequence[T]) -> list[R]:
        """Asks about everything with the ledger open, and says what was asked."""
        with self._ledger.opened() as ledger:
            try:
                asker = Asker(self._channel, ledger)
                return asker.run([partial(ask, asker, one) for one in about])
            finally:
                print(f"{self.name}: {ledger.summary()}", flush=True)

    def _picture_call(self, patch: Patch, setting: str, schema: bool = False) -> Call:
        """A question about a patch that is shown."""
        names, prompt = self.settings.images, self._prompts[setting]
        text = prompt.fill(images=names, structured=schema)
        return Call(patch.patch_id, text, chosen_images(patch, names), names, schema=schema, template=prompt.digest)

    def _from_texts(self, question: Question, text: str, schema: bool, again: bool) -> Call:
        """The question of the two texts."""
        prompt = self._prompts["answer_prompt"]
        words = prompt.fill(description=question.description, explanation=text, structured=schema)
        call = Call(question.patch_id, words, repeat=question.repeat, again=again)
        return replace(call, schema=schema, template=prompt.digest)

    def _alone(self, question: Question, _: str, schema: bool, again: bool) -> Call:
        """The question of the patch alone."""
        if question.patch is None:
            raise ValueError(f"{question.patch_id}: a question without an explanation needs the patch")
        call = self._picture_call(question.patch, "image_only_prompt", schema)
        return replace(call, repeat=question.repeat, again=again)


def _as_is(call: Call, _: bool) -> Call:
    """A question that has one form only."""
    return call


async def _answer(asker: Asker, patch_id: str, form: Callable[..., Call], repeatable: bool) -> Answer:
    """Asks, and once more where the reply cannot be read, unless it would be the same."""
    try:
        answer = _read(patch_id, await asker.ask(partial(form, again=False), structured=True))
        if answer.status is AnswerStatus.UNPARSED and not repeatable:
            answer = _read(patch_id, await asker.ask(partial(form, again=True), structured=True))
    except CallFailed as failure:
        return Answer(patch_id, AnswerStatus.FAILED, None, failure.reason)
    return answer


def _read(patch_id: str, reply: Reply) -> Answer:
    """The answer in a reply, in the form in which it was asked for."""
    return answer_from_json(patch_id, reply.text) if reply.schema else answer_from_text(patch_id, reply.text)
