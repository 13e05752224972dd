# A search sees the training and the validation part of its fold, never the test part.
rule search_hyperparameters:
    input:
        splits="<results>/models/{model}/splits.tsv",
        labels="<results>/settings/labels/{model}.tsv",
        settings="<results>/settings/models.{model}.yaml",
        search="<results>/settings/search.{model}.yaml",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        modality=modality_table,
        stores=development_stores,
    output:
        search=directory("<results>/models/{model}/search/fold-{fold}"),
    log:
        "<logs>/search_hyperparameters/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/search_hyperparameters/{model}/{fold}.tsv"
    wildcard_constraints:
        model=one_of(SEARCHED),
    conda:
        "../../envs/search.yaml"
    threads: lambda wildcards: model_config(wildcards)["training"]["threads"]
    resources:
        mem_mb=lambda wildcards: training_memory(wildcards.model),
        runtime=1440,
    script:
        "../../scripts/search_hyperparameters.py"
