rule measure_shift:
    input:
        settings="<results>/settings/shift.{encoder}.yaml",
        stores=lambda wildcards: cohort_stores(wildcards.encoder, COHORTS),
        inspections=lambda wildcards: per_slide(
            "{results}/slides/{cohort}/{slide}.json", COHORTS
        ),
        tissues=tissue_outputs,
    output:
        shift="<results>/shift/{encoder}/shift.tsv",
        slides="<results>/shift/{encoder}/slides.tsv",
        figure=report(
            "<results>/shift/{encoder}/shift.svg",
            category="Validation",
            subcategory="{encoder}",
            caption="../report/shift.rst",
        ),
        figure_png="<results>/shift/{encoder}/shift.png",
    log:
        "<logs>/measure_shift/{encoder}.log",
    benchmark:
        "<benchmarks>/measure_shift/{encoder}.tsv"
    wildcard_constraints:
        encoder=one_of(SHIFTED),
    conda:
        "../../envs/shift.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        scheduler=SCHEDULER,
    script:
        "../../scripts/measure_shift.py"
