"""The files below `settings/` that the rules depend on: each is rewritten only when its content changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from slidestudy.files import write_text_if_changed
from slidestudy.grouping import group_names, inspected_columns
from slidestudy.labels import class_name
from slidestudy.settings import Config
from slidestudy.stages import pretraining_cohorts, stage_settings
from slidestudy.study import STUDIED, Study, slide_entries
from slidestudy.survival_checks import named_columns
from slidestudy.yaml_files import dump_yaml


def publish_settings(study: Study) -> None:
    """Writes the files that the rules depend on; each only if its content changed.

    `settings/<stage>.yaml`, `settings/slides/<cohort>/<slide>.json` and tables: `labels/<model>.tsv`,
    `comparisons/<comparison>.tsv`, `summaries/<encoder>.tsv`, `pretraining/<encoder>.tsv`, `survival/<endpoint>.tsv`,
    `subgroups.tsv`, `strata.tsv`, `roster.tsv` and `patients.tsv`.
    """
    folder = study.results / "settings"
    for stage, settings in stage_settings(study.config).items():
        # Cohorts, models and scores are shown in the configuration's order.
        keep_order = stage == "report" or stage.startswith("survival.")
        write_text_if_changed(folder / f"{stage}.yaml", dump_yaml(settings, keep_order=keep_order))
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
    for name, endpoint in config["validation"]["survival"].items():
        yield f"survival/{name}", endpoint_table(study, endpoint)
    if config["validation"]["subgroups"]:
        yield "subgroups", subgroup_table(study)
    if column := config["explanations"]["sample"]["strata_by"]:
        table = study.values(column)
        yield "strata", table.assign(value=table["value"].map(class_name))[["slide_id", "value"]]
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


def subgroup_table(study: Study) -> pd.DataFrame:
    """The groups by which models are measured: `slide_id cohort column group`; not those of inspection records."""
    subgroups = study.config["validation"]["subgroups"]
    inspected = inspected_columns(subgroups, study.slides, study.patients)
    tables = []
    for column, options in subgroups.items():
        if column not in inspected:
            found = study.values(column)
            groups = group_names(found["value"], options["edges"])
            tables.append(found[["slide_id", "cohort"]].assign(column=column, group=groups))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["slide_id", "cohort", "column", "group"])


def endpoint_table(study: Study, endpoint: Config) -> pd.DataFrame:
    """What patients.tsv says for an endpoint, a row for each studied patient.

    Returns:
        `patient_id cohort time event`, then the columns of scores, covariates, strata and cluster, as they stand there.
    """
    patients = study.patients[study.patients["cohort"].isin([c for role in STUDIED for c in study.cohorts(role)])]
    found = {"patient_id": patients["patient_id"], "cohort": patients["cohort"]}
    found |= {"time": patients[endpoint["time"]], "event": patients[endpoint["event"]]}
    levels = {name for name, options in endpoint["covariates"].items() if "reference" in options}
    for name in named_columns(endpoint, study.config["models"]):
        found[name] = patients[name].map(class_name) if name in levels else patients[name]
    return pd.DataFrame(found).reset_index(drop=True)
