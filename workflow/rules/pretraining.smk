rule pretrain_encoder:
    input:
        settings="<results>/settings/pretraining.{encoder}.yaml",
        table="<results>/settings/pretraining/{encoder}.tsv",
        entries=per_pretraining_slide("{results}/settings/slides/{cohort}/{slide}.json"),
        inspections=per_pretraining_slide("{results}/slides/{cohort}/{slide}.json"),
        tissue=per_pretraining_slide("{results}/tissue/{cohort}/{slide}.json"),
        geojson=per_pretraining_slide("{results}/tissue/{cohort}/{slide}.geojson"),
        slides=pretraining_slides,
        start=start_weights,
    output:
        encoder=directory("<results>/encoders/{encoder}"),
    log:
        "<logs>/pretrain_encoder/{encoder}.log",
    benchmark:
        "<benchmarks>/pretrain_encoder/{encoder}.tsv"
    conda:
        "../../envs/pretraining.yaml"
    threads: pretraining_threads
    resources:
        mem_mb=pretraining_memory,
        runtime=1440,
    params:
        reading=READING,
    script:
        "../../scripts/pretrain_encoder.py"
