rule inspect_slide:
    input:
        entry="<results>/settings/slides/{cohort}/{slide}.json",
        settings="<results>/settings/slides.yaml",
        slide=slide_file,
    output:
        record="<results>/slides/{cohort}/{slide}.json",
    log:
        "<logs>/inspect_slide/{cohort}/{slide}.log",
    benchmark:
        "<benchmarks>/inspect_slide/{cohort}/{slide}.tsv"
    conda:
        "../../envs/slides.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        reading=READING,
    script:
        "../../scripts/inspect_slide.py"


checkpoint admit_slides:
    input:
        settings="<results>/settings/slides.yaml",
        records=[f"{RESULTS}/slides/{cohort}/{slide}.json" for cohort, slide in ENTRIES],
    output:
        admitted="<results>/slides/admitted.tsv",
        lost="<results>/slides/lost_at_inspection.tsv",
        lookalikes="<results>/slides/lookalikes.tsv",
    log:
        "<logs>/admit_slides.log",
    benchmark:
        "<benchmarks>/admit_slides.tsv"
    conda:
        "../../envs/slides.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    script:
        "../../scripts/admit_slides.py"


rule complete_ledger:
    input:
        admitted="<results>/slides/admitted.tsv",
        lost="<results>/slides/lost_at_inspection.tsv",
        lookalikes="<results>/slides/lookalikes.tsv",
        inspections=inspections,
        roster="<results>/settings/roster.tsv",
        patients="<results>/settings/patients.tsv",
        labels=expand(
            f"{RESULTS}/settings/labels/{{model}}.tsv", model=STUDY.config["models"]
        ),
        tissue=tissue_outputs,
        stores=feature_stores,
    output:
        ledger="<results>/slides/ledger.tsv",
        warnings="<results>/slides/warnings.tsv",
        quality="<results>/slides/quality.tsv",
    log:
        "<logs>/complete_ledger.log",
    benchmark:
        "<benchmarks>/complete_ledger.tsv"
    conda:
        "../../envs/features.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        models=STUDY.config["models"],
    script:
        "../../scripts/complete_ledger.py"
