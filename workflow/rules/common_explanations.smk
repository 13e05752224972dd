# What sampling patches, asking a reader and scoring explanations depend on.

from slidestudy.attribution_kinds import shown_images
from slidestudy.explanations.naming import (
    COMMON_CONTROLS,
    IMAGE_ONLY,
    IRRELEVANT,
    asked_names,
    explanation_names,
    text_of,
    texts_for,
)
from slidestudy.tables import read_table

EXPLAINING = STUDY.config["explanations"]
PATCH_SETS = EXPLAINING["patch_sets"]
GATE = EXPLAINING["gate"]["table"]
# The models whose patches are attributed to pixels.
ATTRIBUTED = EXPLAINED if EXPLAINING["attribution"]["method"] != "none" else []
# A model's own folder, or that of one of its sets of patches.
ASKED_ABOUT = r"[A-Za-z0-9_-]+(/sets/[A-Za-z0-9_-]+)?"


def strata_table(wildcards):
    """The covariate within which the patch sample is balanced, if there is one."""
    return (
        ["<results>/settings/strata.tsv"] if EXPLAINING["sample"]["strata_by"] else []
    )


def explanation_file(wildcards):
    """The text behind an explanation or a control, as a list; none of controls without a text."""
    if wildcards.explanation == IRRELEVANT:
        return [f"{workflow.basedir}/config/explanations/controls/irrelevant.md"]
    if wildcards.explanation in COMMON_CONTROLS:
        return []
    return [EXPLAINING["texts"][text_of(wildcards.explanation)]]


def text_files(wildcards):
    """The written explanations of a model."""
    return [EXPLAINING["texts"][name] for name in texts_for(TEXTS, wildcards.model)]


def scored_names(wildcards):
    """All that is scored of a model."""
    return explanation_names(EXPLAINING, TEXTS, wildcards.model)


def chosen_patches(wildcards):
    """The patches of a set and its folders, whose time stamps change when a patch comes or goes."""
    folder = Path(PATCH_SETS[wildcards.patch_set])
    names = ("metadata.json", "rgb.jpeg", "results.csv")
    inside = [p for p in folder.rglob("*") if p.is_dir() or p.name in names]
    return [str(path) for path in sorted([folder, *inside])]


def set_patches(wildcards):
    """The sets of patches that a person chose, as they were imported for a model."""
    return [
        f"{RESULTS}/explanations/{wildcards.model}/sets/{k}/patches" for k in PATCH_SETS
    ]


def told_and_answered(wildcards):
    """What the reader said of all patches of a model, from every explanation."""
    home = f"{RESULTS}/explanations/{wildcards.model}"
    homes = [home, *(f"{home}/sets/{name}" for name in PATCH_SETS)]
    asked = asked_names(EXPLAINING, scored_names(wildcards))
    return [
        f"{home}/{name}"
        for home in homes
        for name in ["descriptions.jsonl", *(f"answers/{k}.jsonl" for k in asked)]
    ]


def gate_images(wildcards):
    """The images of the reader's test."""
    return [
        str(Path(GATE).parent / image) for image in read_table(GATE, "gate")["image"]
    ]


def gate_result(wildcards):
    """What the reader's test said, if there is one."""
    return [f"{RESULTS}/explanations/gate/gate.json"] if GATE else []


def attributions_of(models):
    """The attributions of some models, those that are made."""
    made = [name for name in models if name in ATTRIBUTED]
    return [f"{RESULTS}/explanations/{name}/attributions" for name in made]


def shown_attributions(wildcards):
    """The attributions of a model's frozen sample, where the reader is shown any image of them."""
    shown = shown_images(EXPLAINING["reader"])
    return attributions_of([wildcards.model]) if shown else []


def image_only_attributions(wildcards):
    """The same, for the one explanation from which the reader answers by looking."""
    looking = wildcards.explanation == IMAGE_ONLY
    return shown_attributions(wildcards) if looking else []


def attributed_encoder(wildcards):
    """The encoder of a model whose patches are attributed."""
    return model_config(wildcards)["encoder"]
