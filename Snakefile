# slidestudy: a multi-cohort whole-slide-image study, from slides to a report.
#
#   snakemake --configfile config/studies/demo/config.yaml --cores 2
#
# The configuration is checked, with its tables, before the DAG is built: workflow/rules/common.smk.


include: "workflow/rules/common.smk"
include: "workflow/rules/slides.smk"
include: "workflow/rules/tissue.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/validation.smk"
include: "workflow/rules/explanations.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report/report.html",


rule masks:
    input:
        tissue_outputs,


rule features:
    input:
        feature_stores,
