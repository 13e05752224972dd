rule encode_slides:
    input:
        settings="<results>/settings/slide_encoders.{slide_encoder}.yaml",
        stores=lambda wildcards: cohort_stores(
            slide_encoders(STUDY.config)[wildcards.slide_encoder]["encoder"],
            [wildcards.cohort],
        ),
    output:
        store=directory("<results>/slide_features/{slide_encoder}/{cohort}.zarr"),
    log:
        "<logs>/encode_slides/{slide_encoder}/{cohort}.log",
    benchmark:
        "<benchmarks>/encode_slides/{slide_encoder}/{cohort}.tsv"
    conda:
        "../../envs/slide_features.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    script:
        "../../scripts/encode_slides.py"
