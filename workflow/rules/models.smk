# Look-alikes are `ancient`: pairs change only with slides, whose stores rerun what they concern.
rule make_splits:
    input:
        labels="<results>/settings/labels/{model}.tsv",
        settings="<results>/settings/models.{model}.yaml",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        table=split_table,
        stores=development_stores,
    output:
        splits="<results>/models/{model}/splits.tsv",
    log:
        "<logs>/make_splits/{model}.log",
    benchmark:
        "<benchmarks>/make_splits/{model}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    script:
        "../../scripts/make_splits.py"


rule train_fold:
    input:
        splits="<results>/models/{model}/splits.tsv",
        labels="<results>/settings/labels/{model}.tsv",
        settings="<results>/settings/models.{model}.yaml",
        stores=development_stores,
    output:
        fold=directory("<results>/models/{model}/fold-{fold}"),
    log:
        "<logs>/train_fold/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/train_fold/{model}/{fold}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: lambda wildcards: model_config(wildcards)["training"]["threads"]
    resources:
        mem_mb=lambda wildcards: 2000
        + round(1024 * model_config(wildcards)["training"]["memory_gb"]),
        runtime=240,
    script:
        "../../scripts/train_fold.py"


rule predict_cohort:
    input:
        folds=fold_outputs,
        settings="<results>/settings/models.{model}.yaml",
        splits="<results>/models/{model}/splits.tsv",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        labels="<results>/settings/labels/{model}.tsv",
        stores=predicted_stores,
    output:
        predictions="<results>/predictions/{model}/{cohort}.tsv",
        tiles=directory("<results>/predictions/{model}/{cohort}"),
    log:
        "<logs>/predict_cohort/{model}/{cohort}.log",
    benchmark:
        "<benchmarks>/predict_cohort/{model}/{cohort}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    script:
        "../../scripts/predict_cohort.py"
