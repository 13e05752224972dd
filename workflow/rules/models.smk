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
    wildcard_constraints:
        model=one_of(TRAINED),
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
        modality=modality_table,
        search=search_output,
        stores=development_stores,
    output:
        fold=directory("<results>/models/{model}/fold-{fold}"),
    log:
        "<logs>/train_fold/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/train_fold/{model}/{fold}.tsv"
    wildcard_constraints:
        model=one_of([name for name in TRAINED if name not in SHARED]),
    conda:
        "../../envs/models.yaml"
    threads: lambda wildcards: model_config(wildcards)["training"]["threads"]
    resources:
        mem_mb=lambda wildcards: training_memory(wildcards.model),
        runtime=240,
    script:
        "../../scripts/train_fold.py"


# One job for all folds: a rule of its own for each model, as their number differs.
for shared in SHARED:

    rule:
        name:
            f"train_folds_{shared}"
        input:
            splits=f"<results>/models/{shared}/splits.tsv",
            labels=f"<results>/settings/labels/{shared}.tsv",
            settings=f"<results>/settings/models.{shared}.yaml",
            modality=STUDY.config["models"][shared].get("modality", {}).get("table", []),
            search=searches_of(shared, folds_of(shared)),
            stores=lambda wildcards, model=shared: trained_stores(model),
        output:
            [
                directory(f"<results>/models/{shared}/fold-{fold}")
                for fold in folds_of(shared)
            ],
        log:
            f"<logs>/train_folds/{shared}.log",
        benchmark:
            f"<benchmarks>/train_folds/{shared}.tsv"
        conda:
            "../../envs/models.yaml"
        threads: STUDY.config["models"][shared]["training"]["threads"]
        resources:
            mem_mb=training_memory(shared),
            runtime=1200,
        script:
            "../../scripts/train_folds.py"


rule predict_cohort:
    input:
        folds=fold_outputs,
        settings="<results>/settings/models.{model}.yaml",
        splits="<results>/models/{model}/splits.tsv",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        labels="<results>/settings/labels/{model}.tsv",
        modality=modality_table,
        stores=predicted_stores,
    output:
        predictions="<results>/predictions/{model}/{cohort}.tsv",
        tiles=directory("<results>/predictions/{model}/{cohort}"),
    log:
        "<logs>/predict_cohort/{model}/{cohort}.log",
    benchmark:
        "<benchmarks>/predict_cohort/{model}/{cohort}.tsv"
    wildcard_constraints:
        model=one_of([*TRAINED, *PUBLISHED]),
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    script:
        "../../scripts/predict_cohort.py"
