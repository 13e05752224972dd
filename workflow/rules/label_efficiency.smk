# Look-alikes are `ancient`: pairs change only with slides, whose stores rerun what they concern.
rule train_shares:
    input:
        splits="<results>/models/{model}/splits.tsv",
        labels="<results>/settings/labels/{model}.tsv",
        settings="<results>/settings/models.{model}.yaml",
        shares="<results>/settings/label_efficiency.{model}.yaml",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        modality=modality_table,
        search=search_output,
        development=development_stores,
        external=external_stores,
    output:
        fold=directory("<results>/models/{model}/label-efficiency/fold-{fold}"),
    log:
        "<logs>/train_shares/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/train_shares/{model}/{fold}.tsv"
    wildcard_constraints:
        model=one_of(EFFICIENCY),
    conda:
        "../../envs/models.yaml"
    threads: lambda wildcards: model_config(wildcards)["training"]["threads"]
    resources:
        mem_mb=share_memory,
        runtime=share_runtime,
    script:
        "../../scripts/train_shares.py"


rule summarise_label_efficiency:
    input:
        settings="<results>/settings/validation.{model}.yaml",
        folds=share_outputs,
    output:
        table="<results>/validation/{model}/label_efficiency.tsv",
        figure=report(
            "<results>/validation/{model}/label_efficiency.svg",
            category="Validation",
            subcategory="{model}",
            caption="../report/label_efficiency.rst",
        ),
        figure_png="<results>/validation/{model}/label_efficiency.png",
    log:
        "<logs>/summarise_label_efficiency/{model}.log",
    benchmark:
        "<benchmarks>/summarise_label_efficiency/{model}.tsv"
    wildcard_constraints:
        model=one_of(EFFICIENCY),
    conda:
        "../../envs/validation.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        roles=COHORTS,
    script:
        "../../scripts/summarise_label_efficiency.py"
