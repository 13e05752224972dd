"""How a model's predictions came about: from folds that the study trained, or from weights that others published."""

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


def is_published(name: str, results: Results) -> bool:
    """Whether a model is published weights."""
    return bool(results.settings["models"][name].get("published"))


def how_predicted(name: str, role: str, results: Results) -> str:
    """In two words, how a model predicted the cohorts of a role."""
    return PUBLISHED if is_published(name, results) else HOW_PREDICTED.get(role, role)


def how_all_predicted(role: str, results: Results) -> str:
    """The same for all models of the study together."""
    return " or ".join(dict.fromkeys(how_predicted(name, role, results) for name in results.settings["models"]))


def prediction_note(name: str, results: Results) -> str:
    """Which of its folds or files predicted what."""
    return PUBLISHED_NOTE if is_published(name, results) else TRAINED_NOTE


def study_note(results: Results) -> str:
    """The same for all models of the study together."""
    published = [name for name in results.settings.get("models") or {} if is_published(name, results)]
    if not published:
        return TRAINED_NOTE
    if len(published) == len(results.settings["models"]):
        return PUBLISHED_NOTE
    return f"{TRAINED_NOTE} Of {', '.join(published)}: {PUBLISHED_NOTE[0].lower()}{PUBLISHED_NOTE[1:]}"


def published_cards(name: str, results: Results) -> list[Record]:
    """What `model.json` says of the weights of each of a model's files; without folds that an earlier study left."""
    files = results.settings["models"][name]["published"]["files"]
    cards = (results.models[name].cards.get(fold, {}).get("published") for fold in range(len(files)))
    return [card for card in cards if card]


def weights_cell(name: str, results: Results) -> Cell:
    """What stands for a recipe: title, files with their digests, and licence of published weights."""
    cards = published_cards(name, results)
    if not cards:
        return Cell(PUBLISHED, str(results.settings["models"][name]["published"]["kind"]))
    files = ", ".join(f"{card['file']} (sha256 {card['sha256'][:12]})" for card in cards)
    flag = "OTHER TILES" if any(card.get("other_tiles") for card in cards) else ""
    return Cell(f"{PUBLISHED}: {cards[0]['title']}", f"{files}; licence: {cards[0]['licence']}", flag)


def weights_note(name: str, results: Results) -> str | None:
    """A paragraph on the weights that a model is; None of a model that was trained here."""
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
