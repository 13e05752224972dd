rule sample_patches:
    input:
        settings="<results>/settings/explanations.sample.yaml",
        predictions=expand(
            f"{RESULTS}/predictions/{{{{model}}}}/{{cohort}}.tsv",
            cohort=scored_cohorts(),
        ),
        tiles=expand(
            f"{RESULTS}/predictions/{{{{model}}}}/{{cohort}}", cohort=scored_cohorts()
        ),
        fold=explained_fold,
        entries=lambda wildcards: per_slide(
            "{results}/settings/slides/{cohort}/{slide}.json", sampled_cohorts()
        ),
        inspections=lambda wildcards: per_slide(
            "{results}/slides/{cohort}/{slide}.json", sampled_cohorts()
        ),
    output:
        patches=directory("<results>/explanations/{model}/patches"),
    log:
        "<logs>/sample_patches/{model}.log",
    benchmark:
        "<benchmarks>/sample_patches/{model}.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        cohorts=scored_cohorts(),
        reference=reference_cohorts(),
        drawn_from=sampled_cohorts(),
    script:
        "../../scripts/sample_patches.py"


rule describe_patches:
    input:
        settings="<results>/settings/explanations.reader.yaml",
        patches="<results>/explanations/{model}/patches",
        prompts=prompt_files,
    output:
        descriptions="<results>/explanations/{model}/descriptions.jsonl",
    log:
        "<logs>/describe_patches/{model}.log",
    benchmark:
        "<benchmarks>/describe_patches/{model}.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    script:
        "../../scripts/describe_patches.py"


rule answer_from_explanation:
    input:
        settings="<results>/settings/explanations.reader.yaml",
        descriptions="<results>/explanations/{model}/descriptions.jsonl",
        text=explanation_file,
        prompts=prompt_files,
    output:
        answers="<results>/explanations/{model}/answers/{explanation}.jsonl",
    log:
        "<logs>/answer_from_explanation/{model}/{explanation}.log",
    benchmark:
        "<benchmarks>/answer_from_explanation/{model}/{explanation}.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    script:
        "../../scripts/answer_from_explanation.py"


rule score_explanations:
    input:
        settings="<results>/settings/explanations.scores.yaml",
        patches="<results>/explanations/{model}/patches",
        answers=expand(
            f"{RESULTS}/explanations/{{{{model}}}}/answers/{{explanation}}.jsonl",
            explanation=explanation_names(STUDY.config),
        ),
    output:
        scores="<results>/explanations/{model}/scores.tsv",
        pairs="<results>/explanations/{model}/pairs.tsv",
    log:
        "<logs>/score_explanations/{model}.log",
    benchmark:
        "<benchmarks>/score_explanations/{model}.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        explanations=explanation_names(STUDY.config),
    script:
        "../../scripts/score_explanations.py"
