# Imported here, since the library behind H5 files is needed by few studies.
if IMPORTED and workflow.is_main_process:
    from slidestudy.features.study_imports import publish_imports

    publish_imports(STUDY.config, ENTRIES, STUDY.results)


rule import_features:
    input:
        entry="<results>/settings/slides/{cohort}/{slide}.json",
        settings="<results>/settings/features.{encoder}.yaml",
        stated="<results>/settings/imports/{encoder}/stated.yaml",
        source="<results>/settings/imports/{encoder}/{cohort}/{slide}.json",
        inspection="<results>/slides/{cohort}/{slide}.json",
        tissue=tissue_record,
        files=imported_files,
    output:
        store=directory("<results>/features/{encoder}/{cohort}/{slide}.zarr"),
    log:
        "<logs>/import_features/{encoder}/{cohort}/{slide}.log",
    benchmark:
        "<benchmarks>/import_features/{encoder}/{cohort}/{slide}.tsv"
    wildcard_constraints:
        encoder=one_of(IMPORTED),
    conda:
        "../../envs/imports.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    script:
        "../../scripts/import_features.py"
