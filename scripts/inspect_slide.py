"""Inspects one slide: can it be used, and at what resolution?"""

from slidestudy.files import read_json, write_json
from slidestudy.job import rule_script
from slidestudy.slides.inspection import inspect_slide
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    entry, options = read_json(snakemake.input.entry), load_yaml(snakemake.input.settings)
    write_json(snakemake.output.record, inspect_slide(entry, options, snakemake.params.reading))
