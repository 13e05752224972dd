# Look-alikes are `ancient`: pairs change only with slides, whose predictions rerun what they concern.
rule attribute_patches:
    input:
        settings="<results>/settings/explanations.attribution.yaml",
        features=lambda wildcards: f"{RESULTS}/settings/features.{attributed_encoder(wildcards)}.yaml",
        model="<results>/settings/models.{model}.yaml",
        patches="<results>/explanations/{model}/patches",
        folds=fold_outputs,
        splits="<results>/models/{model}/splits.tsv",
        lookalikes=ancient("<results>/slides/lookalikes.tsv"),
        labels="<results>/settings/labels/{model}.tsv",
        modality=modality_table,
        trained=lambda wildcards: weights_of(attributed_encoder(wildcards)),
        template=lambda wildcards: template_of(attributed_encoder(wildcards)),
    output:
        attributions=directory("<results>/explanations/{model}/attributions"),
    log:
        "<logs>/attribute_patches/{model}.log",
    benchmark:
        "<benchmarks>/attribute_patches/{model}.tsv"
    wildcard_constraints:
        model=one_of(ATTRIBUTED),
    conda:
        "../../envs/attribution.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        weights_dir=WEIGHTS_DIR,
    script:
        "../../scripts/attribute_patches.py"
