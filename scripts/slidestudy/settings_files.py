"""The files below `settings/` that the rules depend on: each is rewritten only when its content changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from slidestudy.files import write_text_if_changed
from slidestudy.stages import pretraining_cohorts, stage_settings
from slidestudy.study import Study, slide_entries
from slidestudy.yaml_files import dump_yaml


def publish_settings(study: Study) -> None:
    """Writes the files that the rules depend on; each only if its content changed.

    `settings/<stage>.yaml`, `settings/slides/<cohort>/<slide>.json` and tables: `labels/<model>.tsv`,
    `comparisons/<comparison>.tsv`, `summaries/<encoder>.tsv`, `pretraining/<encoder>.tsv`, `roster.tsv` and
    `patients.tsv`.
    """
    folder = study.results / "settings"
    for stage, settings in stage_settings(study.config).items():
        # The report shows cohorts and models in the configuration's order.
        write_text_if_changed(folder / f"{stage}.yaml", dump_yaml(settings, keep_order=stage == "report"))
    for (cohort, slide), entry in slide_entries(study).items():
        write_text_if_changed(folder / "slides" / cohort / f"{slide}.json", json.dumps(entry, indent=2) + "\n")
    for name, table in settings_tables(study):
        text = table.to_csv(sep="\t", index=False, lineterminator="\n", na_rep="")
        write_text_if_changed(folder / f"{name}.tsv", text)


def settings_tables(study: Study) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables below `settings/`.

    Yields:
        Name without suffix, and the table.
    """
    config = study.config
    for name in config["models"]:
        yield f"labels/{name}", study.labels(name)
    for name, comparison in config["comparisons"].items():
        biology = study.values(comparison["biology"])["value"]
        yield f"comparisons/{name}", study.numbers(comparison["target"]).assign(biology=biology)
    for name in config["summaries"]["encoders"]:
        table = study.values(config["summaries"]["biology"]).rename(columns={"value": "biology"})
        yield f"summaries/{name}", table
    for name in config["encoders"]:
        if "pretraining" in config["encoders"][name]:
            yield f"pretraining/{name}", pretraining_table(study, name)
    yield "roster", study.slides[["slide_id", "patient_id", "cohort"]]
    yield "patients", study.patients[["patient_id", "cohort", "center"]]


def pretraining_table(study: Study, encoder: str) -> pd.DataFrame:
    """The slides that an encoder is trained on: `slide_id patient_id cohort center target check`."""
    options = study.config["encoders"][encoder]["pretraining"]
    roles = ("development", "external", "pretraining")
    labels = options.get("target") if options["method"] == "fine-tune" else None
    target = study.values(labels, roles).rename(columns={"value": "target"})
    table = target.assign(check=study.values(options["check_label"], roles)["value"])
    return table[table["cohort"].isin(pretraining_cohorts(study.config, encoder))]
