rule compare_models:
    input:
        settings="<results>/settings/model_comparisons.{model}.yaml",
        predictions=lambda wildcards: predictions_of(wildcards.model),
        rivals=rival_predictions,
    output:
        comparison="<results>/validation/{model}/comparison.tsv",
    log:
        "<logs>/compare_models/{model}.log",
    benchmark:
        "<benchmarks>/compare_models/{model}.tsv"
    wildcard_constraints:
        model=one_of(COMPARED),
    conda:
        "../../envs/validation.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        roles=COHORTS,
    script:
        "../../scripts/compare_models.py"
