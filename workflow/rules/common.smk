# The study, checked, and the functions that say what depends on what.

import re
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from slidestudy.errors import StudyError
from slidestudy.features.availability import check_encoders
from slidestudy.features.normalisation import template_path
from slidestudy.import_files import source_of
from slidestudy.models.modality import check_modalities
from slidestudy.models.splits import SplitScheme, count_folds
from slidestudy.settings_files import publish_settings
from slidestudy.stages import (
    comparison_candidates,
    explanation_names,
    pretraining_cohorts,
    slide_encoders,
)
from slidestudy.study import STUDIED, load_study, slide_entries
from slidestudy.yaml_files import load_yaml

# A study's own file replaces the template: merged, its cohorts and models would mix with the template's.
if not workflow.configfiles:

    configfile: "config/config.yaml"


def open_study():
    """The checked study; its settings files are brought up to date by the main process only."""
    try:
        # Read once more, since Snakemake's own reader takes the second of two equal keys in silence.
        load_yaml(workflow.configfiles[0])
        study = load_study(
            config, workflow.configfiles[0], files=workflow.is_main_process
        )
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
            publish_settings(study)
    except StudyError as error:
        # A plain message: the engine would add the place in this file, where nothing is to be mended.
        sys.exit(f"ERROR: {error}")
    return study


STUDY = open_study()
ENTRIES = slide_entries(STUDY)
COHORTS = {
    name: cohort["role"]
    for name, cohort in STUDY.config["cohorts"].items()
    if cohort["role"] in STUDIED
}
PUBLISHED = [k for k, model in STUDY.config["models"].items() if "published" in model]
TRAINED = [name for name in STUDY.config["models"] if name not in PUBLISHED]
SEARCHED = [name for name in TRAINED if "search" in STUDY.config["models"][name]]
EFFICIENCY = [
    name for name in TRAINED if "label_efficiency" in STUDY.config["models"][name]
]
SHARED = [k for k in TRAINED if STUDY.config["models"][k]["training"]["share_load"]]
EXPLAINED = STUDY.config["explanations"]["models"]
RESULTS = str(STUDY.results)
READING = STUDY.config["reading"]
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


def model_config(wildcards):
    """The configuration of the model that the wildcards name."""
    return STUDY.config["models"][wildcards.model]


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


def stain_template(wildcards):
    """The picture whose colours an encoder's tiles are given, if they are."""
    chosen = STUDY.config["encoders"][wildcards.encoder]["normaliser"]
    return [] if chosen["method"] == "none" else str(template_path(chosen["template"]))


def one_of(names):
    """A wildcard's constraint to some names; one that nothing fits where there are none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def cohort_stores(encoder, cohorts):
    """The feature stores of one encoder over some cohorts."""
    return per_slide(
        "{results}/features/{encoder}/{cohort}/{slide}.zarr", cohorts, encoder=encoder
    )


def trained_stores(model):
    """The stores that a model is trained on."""
    encoder = STUDY.config["models"][model]["encoder"]
    return cohort_stores(encoder, STUDY.cohorts("development"))


def development_stores(wildcards):
    """The stores that the model of the wildcards is trained on."""
    return trained_stores(wildcards.model)


def predicted_stores(wildcards):
    """The stores of the cohort that a model predicts."""
    return cohort_stores(model_config(wildcards)["encoder"], [wildcards.cohort])


def folds_of(model):
    """The numbers of a model's folds: of published weights, one for each file."""
    spec = STUDY.config["models"][model]
    if model in PUBLISHED:
        return range(len(spec["published"]["files"]))
    return range(count_folds(SplitScheme.of(spec), STUDY.labelled(model)))


def fold_outputs(wildcards):
    """The folds of a model."""
    folder = f"{RESULTS}/models/{wildcards.model}"
    return [f"{folder}/fold-{fold}" for fold in folds_of(wildcards.model)]


def searches_of(model, folds):
    """What the search of hyper-parameters found in each fold, where the model has a search."""
    folder = f"{RESULTS}/models/{model}/search"
    return [f"{folder}/fold-{fold}" for fold in folds] if model in SEARCHED else []


def search_output(wildcards):
    """What the search of a fold's hyper-parameters found, where its model has a search."""
    return searches_of(wildcards.model, [wildcards.fold])


def external_stores(wildcards):
    """The stores of the external cohorts, by a model's encoder; none where a study has none."""
    external = STUDY.cohorts("external")
    encoder = model_config(wildcards)["encoder"]
    return cohort_stores(encoder, external) if external else []


def share_outputs(wildcards):
    """The folds that a model was trained on shares of."""
    folder = f"{RESULTS}/models/{wildcards.model}/label-efficiency"
    return [f"{folder}/fold-{fold}" for fold in folds_of(wildcards.model)]


def share_memory(wildcards):
    """The memory of a fold's trainings on shares, MB: that of one, and 16 for the weights of each."""
    spec = model_config(wildcards)
    shares, training = spec["label_efficiency"], spec["training"]
    models = len(shares["fractions"]) * shares["repeats"] * training["seeds"]
    return 2000 + round(1024 * training["memory_gb"]) + 16 * models


def share_runtime(wildcards):
    """The time of a fold's trainings on shares, minutes: that of a fold for each whole part that they add up to."""
    shares = model_config(wildcards)["label_efficiency"]
    return 240 * max(1, round(sum(shares["fractions"]) * shares["repeats"]))


def split_table(wildcards):
    """The table that deals a model's slides into parts, where one is given."""
    splits = model_config(wildcards)["splits"]
    return [splits["table"]] if splits["scheme"] == "table" else []


def modality_table(wildcards):
    """The table of a model's second modality, where it takes one."""
    modality = model_config(wildcards).get("modality")
    return [modality["table"]] if modality else []


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


def explanation_file(wildcards):
    """The text behind an explanation or a control."""
    if wildcards.explanation == "control.irrelevant":
        return f"{workflow.basedir}/config/explanations/controls/irrelevant.md"
    return STUDY.config["explanations"]["texts"][
        wildcards.explanation.removesuffix(".inverted")
    ]


def prompt_files(wildcards):
    """The prompts of a VLM reader."""
    reader = STUDY.config["explanations"]["reader"]
    return [
        reader[key] for key in ("describe_prompt", "answer_prompt") if key in reader
    ]


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
    wanted += ["{results}/explanations/%s/scores.tsv" % name for name in EXPLAINED]
    wanted += [
        "{results}/comparisons/%s" % name for name in STUDY.config["comparisons"]
    ]
    wanted += [
        "{results}/summaries/%s/summary.json" % name
        for name in STUDY.config["summaries"]["encoders"]
    ]
    files = [path.format(results=RESULTS) for path in wanted]
    return files + tissue_outputs(wildcards) + feature_stores(wildcards)
