# Predictions that others made, in a file: from there on they are a model's predictions like any other's.


rule adopt_predictions:
    input:
        predictions=predictions_file,
        settings="<results>/settings/models.{model}.yaml",
        labels="<results>/settings/labels/{model}.tsv",
        admitted="<results>/slides/admitted.tsv",
    output:
        predictions="<results>/predictions/{model}/{cohort}.tsv",
        card="<results>/predictions/{model}/{cohort}.json",
    log:
        "<logs>/adopt_predictions/{model}/{cohort}.log",
    benchmark:
        "<benchmarks>/adopt_predictions/{model}/{cohort}.tsv"
    wildcard_constraints:
        model=one_of(ADOPTED),
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    script:
        "../../scripts/adopt_predictions.py"
