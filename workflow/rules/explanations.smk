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
        strata=strata_table,
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


rule import_patches:
    input:
        files=chosen_patches,
        roster="<results>/settings/roster.tsv",
    output:
        patches=directory("<results>/explanations/{model}/sets/{patch_set}/patches"),
    log:
        "<logs>/import_patches/{model}/{patch_set}.log",
    benchmark:
        "<benchmarks>/import_patches/{model}/{patch_set}.tsv"
    wildcard_constraints:
        patch_set=one_of(PATCH_SETS),
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=lambda wildcards: PATCH_SETS[wildcards.patch_set],
    script:
        "../../scripts/import_patches.py"


rule test_reader:
    input:
        settings="<results>/settings/explanations.gate.yaml",
        reader="<results>/settings/explanations.reader.yaml",
        endpoint=ancient("<results>/settings/explanations.endpoint.yaml"),
        table=GATE or [],
        images=gate_images if GATE else [],
        prompts=prompt_files,
    output:
        gate="<results>/explanations/gate/gate.json",
    log:
        "<logs>/test_reader.log",
    benchmark:
        "<benchmarks>/test_reader.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        ledger=f"{RESULTS}/explanations/ledger",
    script:
        "../../scripts/test_reader.py"


rule describe_patches:
    input:
        settings="<results>/settings/explanations.reader.yaml",
        endpoint=ancient("<results>/settings/explanations.endpoint.yaml"),
        patches="<results>/explanations/{model}/patches",
        attributions=shown_attributions,
        prompts=prompt_files,
    output:
        descriptions="<results>/explanations/{model}/descriptions.jsonl",
    log:
        "<logs>/describe_patches/{model}.log",
    benchmark:
        "<benchmarks>/describe_patches/{model}.tsv"
    wildcard_constraints:
        model=ASKED_ABOUT,
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        ledger=f"{RESULTS}/explanations/ledger",
    script:
        "../../scripts/describe_patches.py"


rule answer_from_explanation:
    input:
        settings="<results>/settings/explanations.reader.yaml",
        endpoint=ancient("<results>/settings/explanations.endpoint.yaml"),
        patches="<results>/explanations/{model}/patches",
        descriptions="<results>/explanations/{model}/descriptions.jsonl",
        text=explanation_file,
        attributions=image_only_attributions,
        prompts=prompt_files,
    output:
        answers="<results>/explanations/{model}/answers/{explanation}.jsonl",
    log:
        "<logs>/answer_from_explanation/{model}/{explanation}.log",
    benchmark:
        "<benchmarks>/answer_from_explanation/{model}/{explanation}.tsv"
    wildcard_constraints:
        model=ASKED_ABOUT,
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        ledger=f"{RESULTS}/explanations/ledger",
    script:
        "../../scripts/answer_from_explanation.py"


rule score_explanations:
    input:
        settings="<results>/settings/explanations.scores.yaml",
        patches="<results>/explanations/{model}/patches",
        sets=set_patches,
        said=told_and_answered,
        texts=text_files,
        gate=gate_result,
    output:
        scores="<results>/explanations/{model}/scores.tsv",
        pairs="<results>/explanations/{model}/pairs.tsv",
        statements="<results>/explanations/{model}/statements.tsv",
        most_wrong="<results>/explanations/{model}/most_wrong.tsv",
        usage="<results>/explanations/{model}/usage.tsv",
        x2x=directory("<results>/explanations/{model}/x2x"),
    log:
        "<logs>/score_explanations/{model}.log",
    benchmark:
        "<benchmarks>/score_explanations/{model}.tsv"
    conda:
        "../../envs/explanations.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        explanations=scored_names,
        asked=lambda wildcards: asked_names(EXPLAINING, scored_names(wildcards)),
        sets=list(PATCH_SETS),
        texts=lambda wildcards: texts_for(TEXTS, wildcards.model),
        ledger=f"{RESULTS}/explanations/ledger",
    script:
        "../../scripts/score_explanations.py"
