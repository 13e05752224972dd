# The study, checked, and the functions that say what depends on what.

import re
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from slidestudy.errors import StudyError
from slidestudy.explanations.naming import read_texts
from slidestudy.explanations.readers.prompts import check_prompts
from slidestudy.features.availability import check_encoders
from slidestudy.features.normalisation import template_path
from slidestudy.grouping import inspected_columns
from slidestudy.import_files import source_of
from slidestudy.models.modality import check_modalities
from slidestudy.models.splits import SplitScheme, count_folds
from slidestudy.reader_kinds import ANSWERING, PROMPTS
from slidestudy.settings_files import publish_settings
from slidestudy.stages import (
    comparison_candidates,
    pretraining_cohorts,
    rivals_of,
    shift_encoders,
    slide_encoders,
    survival_endpoints,
)
from slidestudy.study import STUDIED, load_study, slide_entries
from slidestudy.yaml_files import load_yaml

# A study's own file replaces the template: merged, its cohorts and models would mix with the template's.
if not workflow.configfiles:

    configfile: "config/config.yaml"


def open_study():
    """The checked study and its explanations; its settings files are brought up to date by the main process only."""
    try:
        # Read once more, since Snakemake's own reader takes the second of two equal keys in silence.
        load_yaml(workflow.configfiles[0])
        study = load_study(
            config, workflow.configfiles[0], files=workflow.is_main_process
        )
        texts = read_texts(study.config["explanations"])
        if workflow.is_main_process:
            imported = study.config["features"]["import"]
            check_encoders(
                {
                    k: v
                    for k, v in study.config["encoders"].items()
                    if k not in imported
                },
                study.config["weights_dir"],
            )
            check_modalities(study.config["models"])
            check_prompts(study.config["explanations"]["reader"])
            publish_settings(study)
    except StudyError as error:
        # A plain message: the engine would add the place in this file, where nothing is to be mended.
        sys.exit(f"ERROR: {error}")
    return study, texts


STUDY, TEXTS = open_study()
ENTRIES = slide_entries(STUDY)
COHORTS = {
    name: cohort["role"]
    for name, cohort in STUDY.config["cohorts"].items()
    if cohort["role"] in STUDIED
}
EXPLAINED = STUDY.config["explanations"]["models"]
RESULTS = str(STUDY.results)
READING = STUDY.config["reading"]
SHIFTED = shift_encoders(STUDY.config)
IMPORTED = list(STUDY.config["features"]["import"])
EXTRACTED = [name for name in STUDY.config["encoders"] if name not in IMPORTED]
WEIGHTS_DIR = STUDY.config["weights_dir"]
SCHEDULER = STUDY.config["dask"]["scheduler"]


pathvars:
    results=RESULTS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    cohort="[A-Za-z0-9_-]+",
    slide="[A-Za-z0-9._-]+",
    encoder="[A-Za-z0-9_.-]+",
    model="[A-Za-z0-9_-]+",
    fold="[0-9]+",
    explanation="[A-Za-z0-9_.-]+",
    slide_encoder="[A-Za-z0-9_.-]+",
    comparison="[A-Za-z0-9_-]+",


def slide_file(wildcards):
    """The slide's own file, if the table gives one: touching it reruns all that is made of it."""
    return ENTRIES[wildcards.cohort, wildcards.slide]["path"] or []


def drawn_files(wildcards):
    """The slide's regions of interest and its mask, if the table gives any."""
    entry = ENTRIES[wildcards.cohort, wildcards.slide]
    return [entry[key] for key in ("roi", "mask") if entry[key]]


def admitted_slides(cohorts=None):
    """Slides that passed inspection, `(cohort, slide)`; known once the checkpoint has run."""
    with checkpoints.admit_slides.get().output.admitted.open() as table:
        rows = [line.rstrip("\n").split("\t") for line in list(table)[1:]]
    return [
        (cohort, slide)
        for slide, _, cohort in rows
        if cohorts is None or cohort in cohorts
    ]


def per_slide(pattern, cohorts=None, **values):
    """A file of every admitted slide of some cohorts."""
    return [
        pattern.format(results=RESULTS, cohort=cohort, slide=slide, **values)
        for cohort, slide in admitted_slides(cohorts)
    ]


def inspections(wildcards):
    """The inspection records of all admitted slides."""
    return per_slide("{results}/slides/{cohort}/{slide}.json")


def tissue_outputs(wildcards):
    """The tissue records of all admitted slides that have a file."""
    return [
        f"{RESULTS}/tissue/{cohort}/{slide}.json"
        for cohort, slide in admitted_slides()
        if ENTRIES[cohort, slide]["path"]
    ]


def feature_stores(wildcards):
    """The feature stores of all admitted slides, of all encoders; none of slides that only train encoders."""
    return [
        path
        for name in STUDY.config["encoders"]
        for path in cohort_stores(name, COHORTS)
    ]


def tissue_record(wildcards):
    """The tissue record of a slide, if it has a file; a list, as the script takes it."""
    has_file = ENTRIES[wildcards.cohort, wildcards.slide]["path"]
    return ["<results>/tissue/{cohort}/{slide}.json"] if has_file else []


def imported_files(wildcards):
    """The files of another tool that a slide's features come from, those that are there."""
    options = STUDY.config["features"]["import"][wildcards.encoder]
    source = source_of(options, ENTRIES[wildcards.cohort, wildcards.slide])
    return [str(path) for path in source.files if path not in source.missing]


def template_of(encoder):
    """The picture whose colours an encoder's tiles are given, if they are."""
    chosen = STUDY.config["encoders"][encoder]["normaliser"]
    return (
        [] if chosen["method"] == "none" else [str(template_path(chosen["template"]))]
    )


def one_of(names):
    """A wildcard's constraint to some names; one that nothing fits where there are none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def cohort_stores(encoder, cohorts):
    """The feature stores of one encoder over some cohorts."""
    return per_slide(
        "{results}/features/{encoder}/{cohort}/{slide}.zarr", cohorts, encoder=encoder
    )


def sampled_cohorts():
    """The cohorts that patches are drawn from."""
    chosen = STUDY.config["explanations"]["sample"]["cohorts"]
    return chosen or STUDY.cohorts("external") or STUDY.cohorts("development")


def scored_cohorts():
    """The cohorts whose tile scores the patch sample needs: those drawn from, and the development ones."""
    wanted = {*sampled_cohorts(), *STUDY.cohorts("development")}
    return [name for name in COHORTS if name in wanted]


def reference_cohorts():
    """The cohorts whose tiles set the unit of a patch sample, and the threshold unless the weights came with one."""
    return STUDY.cohorts("development") or sampled_cohorts()


def explained_fold(wildcards):
    """The first fold of published weights, which may have a threshold of their own; nothing for a trained model."""
    return fold_outputs(wildcards)[:1] if wildcards.model in PUBLISHED else []


def prompt_files(wildcards):
    """The prompts of a reader that is asked in words."""
    reader = STUDY.config["explanations"]["reader"]
    return [reader[key] for key in PROMPTS if key in ANSWERING[reader["kind"]]]


def report_inputs(wildcards):
    """All that the report shows."""
    wanted = ["{results}/slides/ledger.tsv", "{results}/settings/report.yaml"]
    wanted += [
        "{results}/validation/%s/metrics.tsv" % name for name in STUDY.config["models"]
    ]
    wanted += [
        "{results}/validation/%s/label_efficiency.%s" % (name, kind)
        for name in EFFICIENCY
        for kind in ("tsv", "svg")
    ]
    wanted += ["{results}/validation/%s/cox.tsv" % name for name in SCORED]
    wanted += ["{results}/validation/%s/comparison.tsv" % name for name in COMPARED]
    wanted += ["{results}/validation/%s/subgroups.tsv" % name for name in SUBGROUPED]
    wanted += ["{results}/shift/%s/shift.tsv" % name for name in SHIFTED]
    wanted += ["{results}/explanations/%s/scores.tsv" % name for name in EXPLAINED]
    wanted += attributions_of(EXPLAINED)
    wanted += [
        "{results}/comparisons/%s" % name for name in STUDY.config["comparisons"]
    ]
    wanted += [
        "{results}/summaries/%s/summary.json" % name
        for name in STUDY.config["summaries"]["encoders"]
    ]
    wanted += [
        "{results}/validation/%s/tables" % name for name in STUDY.config["models"]
    ]
    files = [path.format(results=RESULTS) for path in wanted] + heatmap_folders()
    return files + tissue_outputs(wildcards) + feature_stores(wildcards)
