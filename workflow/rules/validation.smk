rule validate_model:
    input:
        settings="<results>/settings/validation.{model}.yaml",
        predictions=expand(
            f"{RESULTS}/predictions/{{{{model}}}}/{{cohort}}.tsv", cohort=COHORTS
        ),
        truth=[STUDY.config["truth"]["table"]] if "truth" in STUDY.config else [],
    output:
        metrics="<results>/validation/{model}/metrics.tsv",
        truth="<results>/validation/{model}/truth.tsv",
        scatter=report(
            "<results>/validation/{model}/scatter.svg",
            category="Validation",
            subcategory="{model}",
            caption="../report/scatter.rst",
        ),
        roc=report(
            "<results>/validation/{model}/roc.svg",
            category="Validation",
            subcategory="{model}",
            caption="../report/roc.rst",
        ),
    log:
        "<logs>/validate_model/{model}.log",
    benchmark:
        "<benchmarks>/validate_model/{model}.tsv"
    conda:
        "../../envs/validation.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        roles=COHORTS,
    script:
        "../../scripts/validate_model.py"
