"""The commands of `slidestudy`, and how they end: a user's mistake is a message, never a traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from slidestudy.cli.check import check_study
from slidestudy.cli.encoders import fetch_encoders, list_encoders
from slidestudy.cli.exchange import export_paths, import_files
from slidestudy.cli.init import init_study
from slidestudy.cli.output import make_console
from slidestudy.cli.summary import summarise
from slidestudy.cli.validate import CutoffRule, How, Task, validate_outside
from slidestudy.cli.verify import verify_paths
from slidestudy.demo.study import generate_study
from slidestudy.errors import StudyError
from slidestudy.features.foreign_files import Statement
from slidestudy.features.interchange import Format, Unit
from slidestudy.validation.outside_labels import Outside

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-cohort whole-slide-image studies: check one, start one, or generate the demo. Snakemake runs them.",
)
Workers = Annotated[int, typer.Option(min=1, help="Processes to use.")]
CORES = os.cpu_count() or 1
Registries = Annotated[
    list[Path] | None,
    typer.Option("--registry", help="A further file of encoder entries; may be repeated.", show_default=False),
]
encoder_app = typer.Typer(help="Lists encoders and whether they can be used here; fetches their weights.")
app.add_typer(encoder_app, name="encoders")


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The study's configuration.", show_default=False)],
    fast: Annotated[bool, typer.Option("--fast", help="Check the files only: open no slide, time no encoder.")] = False,
    workers: Workers = CORES,
) -> None:
    """Says what is wrong with a study, which slides would be lost and why, and what it will cost."""
    check_study(config, make_console(), fast=fast, workers=workers)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder of slides, with subfolders.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="Where to write; ./study-<folder> by default.", show_default=False)
    ] = None,
) -> None:
    """Writes config.yaml, slides.tsv and patients.tsv for a folder of slides."""
    init_study(folder, output or Path(f"study-{folder.resolve().name}"), make_console())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write the demo's slides and tables.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 2024,
    scale: Annotated[float, typer.Option(help="Side of a slide relative to about 1.4 x 1.15 mm.")] = 1.0,
    workers: Workers = CORES,
) -> None:
    """Generates the slides and tables of the demo study; does nothing where they are already there."""
    console = make_console()
    # Without auto-refresh there is no thread that a forked worker could inherit in the middle of a line.
    with Progress(console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("painting slides", total=None)

        def show(done: int, total: int, slide: str) -> None:
            bar.update(task, completed=done, total=total, description=slide, refresh=True)

        generate_study(folder, seed, scale, show, workers=workers)
    console.print(f"The demo study is in {folder}.")
    if folder.resolve() == (Path.cwd() / "demo-data").resolve():
        console.print("Next: slidestudy check config/studies/demo/config.yaml")
    else:
        console.print(
            "config/studies/demo/config.yaml looks for it in demo-data/: correct its paths, or move it there."
        )


@app.command()
def summary(
    results: Annotated[Path, typer.Argument(help="The results folder of a finished study.", show_default=False)],
) -> None:
    """Says where a finished study's report is, and the numbers that a reader wants first."""
    summarise(results, make_console())


@app.command()
def verify(
    stores: Annotated[
        list[Path], typer.Argument(help="Feature stores (*.zarr), or folders that hold some.", show_default=False)
    ],
) -> None:
    """Checks feature stores: arrays, checksum, coordinates, counts and recipe; ends with 1 where one has a problem."""
    if not verify_paths(stores, make_console()):
        raise typer.Exit(1)


@app.command()
def export(
    stores: Annotated[
        list[Path], typer.Argument(help="Feature stores (*.zarr), or folders that hold some.", show_default=False)
    ],
    tool: Annotated[Format, typer.Option("--format", help="The tool that will read the files.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Where to write <slide>.h5.", show_default=False)],
) -> None:
    """Writes feature stores as the H5 files of TRIDENT, CLAM (and its pt_files/), STAMP or ECTIL."""
    export_paths(stores, tool, output, make_console())


@app.command()
def validate(
    predictions: Annotated[Path, typer.Argument(help="Table of predictions (TSV, or CSV).", show_default=False)],
    patients: Annotated[Path, typer.Option(help="Table of patients and their labels.", show_default=False)],
    task: Annotated[Task, typer.Option(help="What is predicted.")] = Task.REGRESSION,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Label column of the patients; survival: time, then event; may be repeated."),
    ] = None,
    cutoff: Annotated[
        list[float] | None, typer.Option(help="Cut-off of the label, or time; may be repeated.", show_default=False)
    ] = None,
    cutoff_rule: Annotated[CutoffRule, typer.Option(help="How a label is positive at a cut-off.")] = CutoffRule.ABOVE,
    span: Annotated[
        tuple[float, float] | None, typer.Option("--range", help="Regression: lowest and highest possible label.")
    ] = None,
    development: Annotated[
        list[str] | None, typer.Option(help="A cohort whose predictions are cross-validated; may be repeated.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML with keys of the configuration's section `validation`.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; ./validation-<predictions> by default.", show_default=False)
    ] = None,
    title: Annotated[str | None, typer.Option(help="The model's name; the file's by default.")] = None,
) -> None:
    """Validates predictions from anywhere: metrics, calibration, agreement and figures, by cohort, with intervals."""
    request = Outside(predictions, patients, str(task), tuple(target or ()), span, tuple(development or ()))
    how = How(cutoff or [], cutoff_rule, settings, title or predictions.stem)
    validate_outside(request, how, output or Path(f"validation-{predictions.stem}"), make_console())


def _option(text: str) -> typer.models.OptionInfo:
    """An option of `import` that is needed only where the files do not say it."""
    return typer.Option(help=text, show_default=False)


@app.command("import")
def import_h5(
    files: Annotated[list[Path], typer.Argument(help="H5 files, or CLAM's .pt, one per slide.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Where to write <slide>.zarr.", show_default=False)],
    cohort: Annotated[str | None, _option("The slides' cohort.")] = None,
    patient: Annotated[str | None, _option("The slides' patient; each slide its own by default.")] = None,
    encoder: Annotated[str | None, _option("The encoder's name.")] = None,
    dim: Annotated[int | None, _option("Length of a feature vector, to be checked.")] = None,
    slide_mpp: Annotated[float | None, _option("The slides' resolution at level 0, um/px.")] = None,
    tile_size: Annotated[int | None, _option("Side of a tile, px at --tile-mpp.")] = None,
    tile_mpp: Annotated[float | None, _option("Resolution of the tiles, um/px.")] = None,
    unit: Annotated[Unit | None, _option("Of the coordinates: px at level 0, um, or px of the tiles.")] = None,
    coords: Annotated[Path | None, _option("For .pt: folder of <slide>.h5 with coordinates; CLAM's is found.")] = None,
) -> None:
    """Makes feature stores of other tools' files; what the files do not say must be stated, and nothing is guessed."""
    user = Statement(encoder, dim, slide_mpp, tile_size, tile_mpp, unit)
    import_files(files, output, user, cohort, patient, make_console(), coords)


@encoder_app.callback(invoke_without_command=True)
def encoders(
    context: typer.Context,
    registry: Registries = None,
    weights_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded weights.", show_default=False)] = None,
) -> None:
    """Lists the encoders, and says which can be used on this machine; asks no network."""
    if context.invoked_subcommand is None:
        list_encoders(registry or [], weights_dir, make_console())


@encoder_app.command("fetch")
def fetch(
    names: Annotated[list[str], typer.Argument(help="Encoders of the registry.", show_default=False)],
    weights_dir: Annotated[Path, typer.Option(help="Where to write <name>/.", show_default=False)],
    registry: Registries = None,
) -> None:
    """Downloads weights into a folder, for machines without internet (`weights_dir` in the configuration)."""
    fetch_encoders(names, registry or [], weights_dir, make_console())


def main() -> None:
    """Entry point of the command `slidestudy`."""
    try:
        app()
    except StudyError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
