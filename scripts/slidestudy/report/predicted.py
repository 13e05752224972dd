"""How a model's predictions came about: from folds that the study trained, from published weights, or from a file."""

from __future__ import annotations

from typing import Any

from slidestudy.encoder_entries import describe_tiles
from slidestudy.report.collect import Record, Results
from slidestudy.report.layout import Cell, plural

HOW_PREDICTED = {"development": "cross-validated", "external": "external"}
PUBLISHED = "published weights"
TRAINED_NOTE = (
    "Labelled development slides are predicted by the fold that tested on them (cross-validated), slides of external "
    "cohorts by the ensemble of all folds."
)
PUBLISHED_NOTE = (
    "All slides, of development cohorts too, are predicted by the ensemble of all published weights; which patients "
    "these have seen in training is for whoever runs the study to know."
)

ADOPTED = "predictions from a file"
ADOPTED_NOTE = (
    "All predictions come from a file that others made; what that model was trained on the study does not know, so "
    "that no cohort counts as cross-validated or as external to it."
)


def is_adopted(name: str, results: Results) -> bool:
    """Whether a model is predictions from a file."""
    return bool(results.settings["models"][name].get("predictions"))


def is_trained(name: str, results: Results) -> bool:
    """Whether the study trained a model."""
    return not is_adopted(name, results) and not is_published(name, results)


def is_published(name: str, results: Results) -> bool:
    """Whether a model is published weights."""
    return bool(results.settings["models"][name].get("published"))


def how_predicted(name: str, role: str, results: Results) -> str:
    """In a few words, how a model predicted the cohorts of a role."""
    if is_adopted(name, results):
        return ADOPTED
    return PUBLISHED if is_published(name, results) else HOW_PREDICTED.get(role, role)


def how_all_predicted(role: str, results: Results) -> str:
    """The same for all models of the study together."""
    return " or ".join(dict.fromkeys(how_predicted(name, role, results) for name in results.settings["models"]))


def prediction_note(name: str, results: Results) -> str:
    """Which of its folds or files predicted what."""
    if is_adopted(name, results):
        return ADOPTED_NOTE
    return PUBLISHED_NOTE if is_published(name, results) else TRAINED_NOTE


def study_note(results: Results) -> str:
    """The same for all models of the study together."""
    models: dict[str, list[str]] = {}
    for name in results.settings.get("models") or {}:
        models.setdefault(prediction_note(name, results), []).append(name)
    if len(models) == 1:
        return next(iter(models))
    others = [note for note in (PUBLISHED_NOTE, ADOPTED_NOTE) if note in models]
    said = [f"Of {', '.join(models[note])}: {note[0].lower()}{note[1:]}" for note in others]
    return " ".join([*([TRAINED_NOTE] if TRAINED_NOTE in models or not models else []), *said])


def published_cards(name: str, results: Results) -> list[Record]:
    """What `model.json` says of the weights of each of a model's files; without folds that an earlier study left."""
    files = results.settings["models"][name]["published"]["files"]
    cards = (results.models[name].cards.get(fold, {}).get("published") for fold in range(len(files)))
    return [card for card in cards if card]


def file_card(name: str, results: Results) -> Record:
    """What is known of the file that a model is: `file sha256 key rows`; empty before it was read."""
    return next(iter(results.models[name].adopted.values()), {})


def file_cell(name: str, results: Results) -> Cell:
    """What stands for a recipe: the file with its digest."""
    card = file_card(name, results)
    if not card:
        return Cell(ADOPTED)
    return Cell(f"{ADOPTED} (sha256 {card['sha256'][:12]})", f"{card['file']}, joined by {card['key']}")


def weights_cell(name: str, results: Results) -> Cell:
    """What stands for a recipe: title, files with their digests, and licence of published weights."""
    cards = published_cards(name, results)
    if not cards:
        return Cell(PUBLISHED, str(results.settings["models"][name]["published"]["kind"]))
    files = ", ".join(f"{card['file']} (sha256 {card['sha256'][:12]})" for card in cards)
    flag = "OTHER TILES" if any(card.get("other_tiles") for card in cards) else ""
    return Cell(f"{PUBLISHED}: {cards[0]['title']}", f"{files}; licence: {cards[0]['licence']}", flag)


def weights_note(name: str, results: Results) -> str | None:
    """A paragraph on the weights or the file that a model is; None of a model that was trained here."""
    if is_adopted(name, results):
        return _file_note(name, results)
    if not is_published(name, results):
        return None
    cards = published_cards(name, results)
    if not cards:
        return "Published weights, which were not found."
    card: dict[str, Any] = cards[0]
    parts = [
        f"Nothing was trained: {plural(len(cards), 'file')} of published weights, {card['source']}.",
        f"Made for {card['tiles']}.",
    ]
    if card.get("other_tiles"):
        parts.append(
            f"The tiles of this study are others, {describe_tiles([card['applied_to']])}, as its configuration allows."
        )
    return " ".join(parts)


def _file_note(name: str, results: Results) -> str:
    """A paragraph on the file that a model is, and how many slides it predicts."""
    card = file_card(name, results)
    if not card:
        return "Predictions from a file, which was not read yet."
    of_patients = " Each slide has its patient's prediction." if card["key"] == "patient_id" else ""
    counts = "; ".join(
        f"{cohort}: {part['slides_predicted']} of {plural(part['slides'], 'admitted slide')}"
        for cohort, part in results.models[name].adopted.items()
    )
    said = f"Nothing was trained: predictions from the file {card['file']} (sha256 {card['sha256'][:12]})"
    return f"{said}, {plural(card['rows'], 'row')}, joined by {card['key']}.{of_patients} Predicted are, of {counts}."
