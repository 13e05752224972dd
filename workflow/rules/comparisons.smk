rule compare_encoders:
    input:
        settings="<results>/settings/comparisons.{comparison}.yaml",
        labels="<results>/settings/comparisons/{comparison}.tsv",
        features=lambda wildcards: expand(
            f"{RESULTS}/slide_features/{{candidate}}/{{cohort}}.zarr",
            candidate=comparison_candidates(STUDY.config, wildcards.comparison),
            cohort=COHORTS,
        ),
    output:
        comparison=report(
            directory("<results>/comparisons/{comparison}"),
            patterns=["{name}.svg"],
            category="Encoders",
            subcategory="{comparison}",
            caption="../report/comparison.rst",
        ),
    log:
        "<logs>/compare_encoders/{comparison}.log",
    benchmark:
        "<benchmarks>/compare_encoders/{comparison}.tsv"
    conda:
        "../../envs/validation.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    script:
        "../../scripts/compare_encoders.py"
