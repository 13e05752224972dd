"""Searches the hyper-parameters of one fold of one model, on its training and validation parts."""

from pathlib import Path

from slidestudy.job import rule_script
from slidestudy.models.resuming import forget
from slidestudy.models.searching.outcome import save_search
from slidestudy.models.searching.search import search_card, search_fold
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, search = load_yaml(snakemake.input.settings), load_yaml(snakemake.input.search)
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    fold, output = int(snakemake.wildcards.fold), Path(snakemake.output.search)
    found = search_fold(
        splits,
        labels,
        snakemake.input.stores,
        fold,
        settings,
        search,
        output=output,
        lookalikes=load_table(snakemake.input.lookalikes),
        log=lambda line: print(line, flush=True),
    )
    save_search(output, found, search_card(settings, search, fold))
    forget(output)
