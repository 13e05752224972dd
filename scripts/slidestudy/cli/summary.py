"""What a reader wants first of a finished study: where the report is, and its main numbers."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from slidestudy.errors import StudyError
from slidestudy.report.collect import read_results
from slidestudy.report.headline import cards
from slidestudy.yaml_files import load_yaml


def summarise(folder: Path, console: Console) -> None:
    """Prints the report's place and its headline numbers.

    Args:
        folder: The results folder.
        console: Where to print.

    Raises:
        StudyError: The folder holds no finished study.
    """
    report = folder / "report" / "report.html"
    if not report.is_file():
        raise StudyError("there is no report yet", str(report), "run the workflow to its end first")
    results = read_results(folder, load_yaml(folder / "settings" / "report.yaml"))
    by_title: dict[str, list[str]] = {}
    for card in cards(results):
        detail = f" ({card.detail})" if card.detail else ""
        by_title.setdefault(card.title, []).append(f"{card.value}{detail}, {card.note}")
    width = max(map(len, by_title), default=0)
    console.print()
    for title, numbers in by_title.items():
        for index, number in enumerate(numbers):
            console.print(f"  {title if index == 0 else '':{width}}  {number}", highlight=False, soft_wrap=True)
    console.print(f"\nReport: {report.resolve()}", highlight=False, soft_wrap=True)
