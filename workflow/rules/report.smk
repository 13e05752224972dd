rule build_report:
    input:
        report_inputs,
        settings="<results>/settings/report.yaml",
    output:
        report=report(
            "<results>/report/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.tsv"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        results=lambda wildcards, output: Path(output.report).parents[1],
    script:
        "../../scripts/build_report.py"
