"""Who is lost between the tables and the models, counted per cohort and stage from the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.layout import Cell, Column, Table, make_table

FEATURED = "With features"


@dataclass(frozen=True)
class Branch:
    """What is left of a cohort after one stage, for one encoder or model.

    Attributes:
        name: The encoder or model; blank where the stage has one branch for all.
        slides: Slides left.
        patients: Patients with a slide left.
        lost: Code -> slides lost at this stage.
    """

    name: str
    slides: int
    patients: int
    lost: dict[str, int]


@dataclass(frozen=True)
class Step:
    """One stage of a cohort's flow.

    Attributes:
        title: What those who are left have.
        branches: One, or one per encoder or model.
    """

    title: str
    branches: list[Branch]


class _Flow:
    """The slides of one cohort and what the ledger says of them."""

    def __init__(self, roster: pd.DataFrame, ledger: pd.DataFrame) -> None:
        self._patient = dict(zip(roster["slide_id"], roster["patient_id"], strict=True))
        self._codes: dict[str, dict[str, str]] = {}
        for stage, slide, code in zip(ledger["stage"], ledger["slide_id"], ledger["code"], strict=True):
            if slide in self._patient:
                self._codes.setdefault(stage, {})[slide] = code
        self.all = set(self._patient)

    def after(self, slides: set[str], stage: str, name: str = "") -> tuple[set[str], Branch]:
        """The slides that a stage leaves of those that reached it."""
        codes = self._codes.get(stage, {})
        lost = Counter(codes[slide] for slide in slides if slide in codes)
        left = slides - codes.keys()
        patients = len({self._patient[slide] for slide in left})
        return left, Branch(name, len(left), patients, dict(sorted(lost.items())))


def cohort_flow(
    roster: pd.DataFrame,
    ledger: pd.DataFrame,
    encoders: list[str],
    models: Mapping[str, str | None],
    *,
    masked: bool = True,
) -> list[Step]:
    """The flow of one cohort from the tables to the models.

    Args:
        roster: The cohort's slides.
        ledger: The cohort's ledger.
        encoders: The study's encoders; none for a cohort that only trains them.
        models: Model -> its encoder, None of predictions from a file, which need admitted slides only; likewise.
        masked: Whether any slide has a file in which tissue was looked for.
    """
    flow = _Flow(roster, ledger)
    slides, branch = flow.after(flow.all, "")
    steps, admitted = [Step("In the tables", [branch])], flow.after(slides, "inspection")[0]
    for title, stage in (("Admitted", "inspection"), ("With tissue", "tissue"))[: 2 if masked else 1]:
        slides, branch = flow.after(slides, stage)
        steps.append(Step(title, [branch]))
    featured, branches = {}, []
    for encoder in encoders:
        featured[encoder], branch = flow.after(slides, f"features:{encoder}", encoder)
        branches.append(branch)
    if encoders:
        steps.append(Step(FEATURED, branches))
    if models:
        usable = {m: admitted if e is None else featured.get(e, set()) for m, e in models.items()}
        labelled = [flow.after(slides, f"labels:{m}", m)[1] for m, slides in usable.items()]
        steps.append(Step("With a label", labelled))
    return steps


def study_flows(results: Results) -> dict[str, list[Step]]:
    """Cohort -> its flow."""
    settings, roster, ledger = results.settings, results.roster, results.ledger
    models = {name: model.get("encoder") for name, model in (settings.get("models") or {}).items()}
    flows = {}
    for cohort, spec in settings["cohorts"].items():
        ends = spec["role"] == "pretraining"
        own = roster[roster["cohort"] == cohort], ledger[ledger["cohort"] == cohort]
        encoders = [] if ends else list(settings["encoders"])
        inspected, masked = ({name for name, _ in found} for found in (results.inspections, results.tissues))
        flows[cohort] = cohort_flow(
            *own, encoders, {} if ends else models, masked=cohort in masked or cohort not in inspected
        )
    return flows


def describe_flows(flows: Mapping[str, list[Step]]) -> str:
    """The flows in words, for those who cannot see the diagram."""
    cohorts = []
    for cohort, steps in flows.items():
        parts = [f"{s.title.lower()} {' and '.join(_in_words(b) for b in s.branches)}" for s in steps]
        cohorts.append(f"{cohort}: {', '.join(parts)}")
    return "Slides left after each stage. " + "; ".join(cohorts) + "."


def _in_words(branch: Branch) -> str:
    return f"{branch.slides} for {branch.name}" if branch.name else str(branch.slides)


def cohort_table(results: Results, flows: Mapping[str, list[Step]]) -> Table:
    """The cohorts: role, patients, centres, slides, and what is left."""
    rows = []
    for cohort, spec in results.settings["cohorts"].items():
        patients = results.patients[results.patients["cohort"] == cohort]
        featured = [b.slides for step in flows[cohort] if step.title == FEATURED for b in step.branches]
        lost = results.ledger[(results.ledger["cohort"] == cohort) & (results.ledger["stage"] == "patients")]
        rows.append([
            Cell(cohort, spec.get("description") or ""),
            spec["role"],
            len(patients),
            int(patients["center"].replace("", None).nunique()),
            flows[cohort][0].branches[0].slides,
            int((results.admitted["cohort"] == cohort).sum()),
            max(featured, default=None),
            len(lost),
        ])  # fmt: skip
    columns = ["Cohort", "Role", "#Patients", "#Centres", "#Slides", "#Admitted", "#With features", "#Patients lost"]
    caption = (
        "Cohorts. Patients, centres and slides are those of the study’s tables; admitted slides passed inspection; "
        "a patient is lost when none of their slides can be used."
    )
    return make_table(caption, columns, rows)


def loss_table(results: Results) -> Table:
    """How many slides or patients each cohort lost, by stage and reason."""
    cohorts, ledger = list(results.settings["cohorts"]), results.ledger
    counts = Counter(zip(ledger["stage"], ledger["code"], ledger["cohort"], strict=True))
    order = [*results.settings["encoders"], *(results.settings.get("models") or {})]
    reasons = sorted({(stage, code) for stage, code, _ in counts}, key=lambda r: (_rank(r[0], order), r[1]))
    rows = [
        [stage, code, *[counts[stage, code, cohort] or None for cohort in cohorts]] for stage, code in reasons
    ]  # fmt: skip
    caption = (
        "Losses by stage and reason. Rows of the stage “patients” count patients, all others slides. A slide without a "
        "label is lost for that model only."
    )
    return make_table(caption, ["Stage", "Reason", *[Column(c, numeric=True) for c in cohorts]], rows)


def _rank(stage: str, order: list[str]) -> tuple[int, int, str]:
    """Where a stage stands in the flow."""
    kind, _, name = stage.partition(":")
    kinds = ["inspection", "tissue", "features", "labels", "patients"]
    place = kinds.index(kind) if kind in kinds else len(kinds)
    return place, order.index(name) if name in order else len(order), stage


def ledger_table(results: Results) -> Table:
    """The whole ledger."""
    keys = ("cohort", "patient_id", "slide_id", "stage", "code", "message")
    rows = [[str(row[key]) for key in keys] for row in results.ledger.to_dict("records")]
    caption = "The ledger: every slide and every patient lost, with the stage and the reason."
    return make_table(caption, ["Cohort", "Patient", "Slide", "Stage", "Reason", "Message"], rows)
