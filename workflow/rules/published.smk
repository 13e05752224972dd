# Weights that others trained, laid down as folds: from there on they are models like any other.


# The stores are `ancient`: a slide that is read anew has features of the same recipe.
rule adopt_weights:
    input:
        weights=published_file,
        settings="<results>/settings/models.{model}.yaml",
        recipe=recipe_sources,
        stores=ancient(adopting_stores),
    output:
        fold=directory("<results>/models/{model}/fold-{fold}"),
    log:
        "<logs>/adopt_weights/{model}/{fold}.log",
    benchmark:
        "<benchmarks>/adopt_weights/{model}/{fold}.tsv"
    wildcard_constraints:
        model=one_of(PUBLISHED),
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    script:
        "../../scripts/adopt_weights.py"


rule no_splits:
    input:
        settings="<results>/settings/models.{model}.yaml",
    output:
        splits="<results>/models/{model}/splits.tsv",
    log:
        "<logs>/no_splits/{model}.log",
    benchmark:
        "<benchmarks>/no_splits/{model}.tsv"
    wildcard_constraints:
        model=one_of(PUBLISHED),
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    script:
        "../../scripts/no_splits.py"
