# slidestudy: a multi-cohort whole-slide-image study, from slides to a report.
#
#   snakemake --configfile config/studies/demo/config.yaml --cores 2
#
# The configuration is checked, with its tables, before the DAG is built: workflow/rules/common.smk.


include: "workflow/rules/common.smk"
include: "workflow/rules/common_encoders.smk"
include: "workflow/rules/common_models.smk"
include: "workflow/rules/common_explanations.smk"
include: "workflow/rules/slides.smk"
include: "workflow/rules/tissue.smk"
include: "workflow/rules/pretraining.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/imports.smk"
include: "workflow/rules/slide_features.smk"
include: "workflow/rules/summaries.smk"
include: "workflow/rules/comparisons.smk"
include: "workflow/rules/shift.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/adopted.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/validation.smk"
include: "workflow/rules/survival.smk"
include: "workflow/rules/model_comparisons.smk"
include: "workflow/rules/subgroups.smk"
include: "workflow/rules/label_efficiency.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/heatmaps.smk"
include: "workflow/rules/attribution.smk"
include: "workflow/rules/explanations.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report/report.html",


rule masks:
    input:
        tissue_outputs,


rule encoders:
    input:
        expand(f"{RESULTS}/encoders/{{encoder}}", encoder=trained_encoders()),


rule features:
    input:
        feature_stores,


rule comparisons:
    input:
        expand(
            f"{RESULTS}/comparisons/{{comparison}}",
            comparison=STUDY.config["comparisons"],
        ),
