rule extract_features:
    input:
        entry="<results>/settings/slides/{cohort}/{slide}.json",
        settings="<results>/settings/features.{encoder}.yaml",
        inspection="<results>/slides/{cohort}/{slide}.json",
        tissue="<results>/tissue/{cohort}/{slide}.json",
        geojson="<results>/tissue/{cohort}/{slide}.geojson",
        slide=slide_file,
        trained=lambda wildcards: weights_of(wildcards.encoder),
        template=lambda wildcards: template_of(wildcards.encoder),
    output:
        store=directory("<results>/features/{encoder}/{cohort}/{slide}.zarr"),
    log:
        "<logs>/extract_features/{encoder}/{cohort}/{slide}.log",
    benchmark:
        "<benchmarks>/extract_features/{encoder}/{cohort}/{slide}.tsv"
    wildcard_constraints:
        encoder=one_of(EXTRACTED),
    conda:
        "../../envs/features.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        reading=READING,
        weights_dir=WEIGHTS_DIR,
    script:
        "../../scripts/extract_features.py"
