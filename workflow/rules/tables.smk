rule tabulate_model:
    input:
        unpack(paper_sources),
        settings="<results>/settings/validation.{model}.yaml",
        metrics="<results>/validation/{model}/metrics.tsv",
    output:
        tables=directory("<results>/validation/{model}/tables"),
    log:
        "<logs>/tabulate_model/{model}.log",
    benchmark:
        "<benchmarks>/tabulate_model/{model}.tsv"
    conda:
        "../../envs/validation.yaml"
    resources:
        mem_mb=1000,
        runtime=15,
    script:
        "../../scripts/tabulate_model.py"
