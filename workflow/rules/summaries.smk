rule summarise_features:
    input:
        settings="<results>/settings/summaries.{encoder}.yaml",
        slides="<results>/settings/summaries/{encoder}.tsv",
        stores=lambda wildcards: cohort_stores(wildcards.encoder, COHORTS),
    output:
        moments="<results>/summaries/{encoder}/moments.tsv",
        shift="<results>/summaries/{encoder}/shift.tsv",
        components="<results>/summaries/{encoder}/components.tsv",
        duplicates="<results>/summaries/{encoder}/duplicates.tsv",
        map="<results>/summaries/{encoder}/map.tsv",
        robustness="<results>/summaries/{encoder}/robustness.tsv",
        figure=report(
            "<results>/summaries/{encoder}/map.svg",
            category="Features",
            subcategory="{encoder}",
        ),
        record="<results>/summaries/{encoder}/summary.json",
    log:
        "<logs>/summarise_features/{encoder}.log",
    benchmark:
        "<benchmarks>/summarise_features/{encoder}.tsv"
    conda:
        "../../envs/summaries.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        scheduler=STUDY.config["dask"]["scheduler"],
    script:
        "../../scripts/summarise_features.py"
