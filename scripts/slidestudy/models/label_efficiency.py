"""How a model gains from labels: trainings on ever more of the training part's patients, all else equal.

After ECTIL's finding that a few hundred labelled slides suffice (Schirris et al. 2025, arXiv 2501.14379): for each
share of the patients a model is trained by the recipe of the fold's own, and judged on the same slides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.labels import CLASSES, is_labelled, is_survival, label_columns
from slidestudy.models.bags import read_bag
from slidestudy.models.calibration import combine
from slidestudy.models.cohort import covariates_of, fold_parts, usable_stores
from slidestudy.models.loading import seed_of
from slidestudy.models.prediction import raw_outputs
from slidestudy.models.resuming import resume_folder
from slidestudy.models.searching.outcome import load_search, with_setting
from slidestudy.models.sharing import share_stores
from slidestudy.models.splits import predicting_folds
from slidestudy.models.splits.strata import label_strata
from slidestudy.models.targets import Array
from slidestudy.models.training import Trained, train_members
from slidestudy.prediction_files import PREDICTIONS

DRAW = 104
"""Key of the draw of patients."""
KEYS = ["cohort", "fraction", "repeat", "n_patients"]
Members = dict[frozenset[str], list[Trained]]
"""The models of all seeds, by the patients they were trained on."""
SHARES = ["fold", "fraction", "repeat", "n_patients", "n_slides", "best_epoch", "reason"]


@dataclass(frozen=True)
class Share:
    """Some of the training part's patients.

    Attributes:
        fraction: Their share of all its patients.
        repeat: The draw, from 0.
        patients: The patients.
    """

    fraction: float
    repeat: int
    patients: frozenset[str]

    @property
    def words(self) -> str:
        """The share in a log."""
        return f"{len(self.patients)} patients (share {self.fraction:g}, draw {self.repeat + 1})"


def draw_patients(
    train: pd.DataFrame, fractions: Sequence[float], task: str, columns: Sequence[str], seed: int
) -> dict[float, frozenset[str]]:
    """Draws shares of the training part's patients, each within the larger ones.

    The patients of each stratum of the labels (`strata.label_strata`: the class, the quantile group of the target,
    the event and the group of its time) are put into a random order and the strata then merged so that every
    beginning of the whole order has about their proportions, with at least one patient of each stratum first.

    Args:
        train: `slide_id patient_id` and the label columns of the training part's slides.
        fractions: Shares of its patients; numbers are rounded, halves up, and at least 1.
        task: The model's task.
        columns: The label columns.
        seed: Seed of the draw.

    Returns:
        Fraction -> patients, fractions rising; 1 gives all of them.
    """
    labels = _patient_labels(train, task, columns)
    strata = label_strata(labels, task, columns, folds=1)
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        place[members] = np.arange(len(members)) / len(members)
    order = np.lexsort((rng.permutation(len(labels)), place))
    patients = labels["patient_id"].to_numpy()[order]
    counts = {fraction: max(1, int(fraction * len(patients) + 0.5)) for fraction in sorted(fractions)}
    return {fraction: frozenset(patients[:count]) for fraction, count in counts.items()}


def _patient_labels(train: pd.DataFrame, task: str, columns: Sequence[str]) -> pd.DataFrame:
    """One row per patient, sorted: the commonest class, the time and event of the first slide, or the mean targets."""
    groups = train.groupby("patient_id", sort=True)[list(columns)]
    if task in CLASSES:
        labels = groups.agg(lambda classes: classes.mode().iloc[0])
    else:
        labels = groups.first() if is_survival(task) else groups.mean()
    return labels.reset_index()


def plan_shares(
    train: pd.DataFrame, fractions: Sequence[float], repeats: int, settings: Mapping[str, Any], fold: int
) -> list[Share]:
    """The shares that a fold is trained on: every fraction of every draw, the whole part once, as it is always itself.

    Two draws of a small part may be the same patients.

    Args:
        train: As for `draw_patients`.
        fractions: The fractions.
        repeats: Draws of patients.
        settings: The model's settings: `task columns seed`.
        fold: The fold.
    """
    columns = label_columns(settings["task"], settings.get("columns"))
    shares = []
    for repeat in range(repeats):
        seed = seed_of(DRAW, settings["seed"], fold, repeat)
        drawn = draw_patients(train, fractions, settings["task"], columns, seed)
        shares += [Share(f, repeat, p) for f, p in drawn.items() if repeat == 0 or f < 1]
    return shares


def train_shares(
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Mapping[str, Sequence[str]],
    fold: int,
    settings: Mapping[str, Any],
    *,
    fractions: Sequence[float],
    repeats: int,
    output: str | os.PathLike[str],
    lookalikes: pd.DataFrame | None = None,
    search: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trains a fold on shares of its training part, and predicts its test part and the external cohorts with each.

    Validation part, test part and recipe are the same for all; draws of the same patients are trained on once. Features
    of training and validation slides are read once where they fit `training.memory_gb` together, those of predicted
    slides always. Trainings that a killed job had finished are not done again.

    Args:
        splits: `patient_id slide_id fold part`.
        labels: `slide_id patient_id cohort center`, the task's columns and the covariates, of all cohorts.
        stores: `development` and `external` feature stores.
        fold: The fold.
        settings: The model's settings.
        fractions: Shares of the training part's patients.
        repeats: Draws of patients.
        output: What the fold's results will be written to.
        lookalikes: Pairs of patients with look-alike slides; None where they do not count.
        search: The fold's search of hyper-parameters, if there was one; all shares take its best setting.

    Returns:
        Predictions: KEYS, PREDICTIONS and the further columns of a cohort's predictions but those of survival curves,
        whose times are each training's own. Trainings: the columns of SHARES; `best_epoch` of each seed, joined by
        `+`; `reason` says why a share could not be trained on.

    Raises:
        StudyError: The stores cannot be used together.
    """
    if search is not None:
        settings = with_setting(settings, load_search(search)["best"])
    usable = usable_stores(stores["development"])
    job = _Fold(splits, labels.set_index("slide_id", drop=False), usable, fold, settings, Path(output))
    shares = plan_shares(job.train, fractions, repeats, settings, fold)
    trained, reasons = job.train_all(shares)
    predicted = job.slides_to_predict(usable_stores(stores["external"]), lookalikes)
    slides_of = job.labels.loc[list(predicted)].assign(fold=fold)
    able = [share for share in shares if share.patients in trained]
    table = _predict(able, trained, slides_of, predicted, settings, job.shared.source.recipe)
    return table, job.account(shares, trained, reasons)


class _Fold:
    """A fold whose shares are trained.

    Args:
        splits: The splits.
        labels: The labels by slide.
        development: The usable development stores by slide.
        number: The fold.
        settings: The model's settings.
        output: What the results will be written to.
    """

    def __init__(
        self,
        splits: pd.DataFrame,
        labels: pd.DataFrame,
        development: Mapping[str, Path],
        number: int,
        settings: Mapping[str, Any],
        output: Path,
    ) -> None:
        self.splits, self.labels, self.development = splits, labels, development
        self.number, self.settings, self.output = number, settings, output
        self.rows = splits[splits["fold"] == number]
        seen = self.rows.loc[self.rows["part"] != "test", "slide_id"]
        self.paths = {slide: development[slide] for slide in seen if slide in development}
        self.shared = share_stores(self.paths, settings["training"])
        self.train = labels.loc[self.rows.loc[self.rows["part"] == "train", "slide_id"]]

    def train_all(self, shares: Sequence[Share]) -> tuple[Members, dict[frozenset[str], str]]:
        """Trains on each set of patients once: the models where that is possible, and the reasons where not."""
        trained: Members = {}
        reasons: dict[frozenset[str], str] = {}
        for share in shares:
            if share.patients in trained or share.patients in reasons:
                continue
            try:
                trained[share.patients] = self.train_share(share)
            except StudyError as error:
                reasons[share.patients] = "; ".join(problem.what for problem in error.problems)
                print(f"{share.words}: not trained, {reasons[share.patients]}", flush=True)
        return trained, reasons

    def account(self, shares: Sequence[Share], trained: Members, reasons: Mapping[frozenset[str], str]) -> pd.DataFrame:
        """What became of each share: the columns of SHARES."""
        rows = []
        for share in shares:
            slides = int(self.train["patient_id"].isin(share.patients).sum())
            epochs = "+".join(str(member.best_epoch) for member in trained.get(share.patients, []))
            sizes = [len(share.patients), slides]
            rows.append([self.number, share.fraction, share.repeat, *sizes, epochs, reasons.get(share.patients, "")])
        return pd.DataFrame(rows, columns=SHARES)

    def train_share(self, share: Share) -> list[Trained]:
        """Trains one share with each of the fold's seeds; of all patients this is the fold's own training."""
        kept = self.rows[(self.rows["part"] != "train") | self.rows["patient_id"].isin(share.patients)]
        stores = [str(path) for path in self.paths.values()]
        labels = self.labels.reset_index(drop=True)
        parts, task = fold_parts(kept, labels, stores, self.number, self.settings, open_source=self.shared.choose)
        memory_gb = self.shared.loader_gb(part.source for part in parts.values())
        training = {**self.settings["training"], "memory_gb": memory_gb}
        own = {**self.settings, "name": f"{self.settings['name']} on {share.words}", "training": training}
        place = resume_folder(self.output) / f"share-{share.fraction:g}-{share.repeat}"
        return train_members(parts, task, own, self.number, place)

    def slides_to_predict(self, external: Mapping[str, Path], lookalikes: pd.DataFrame | None) -> dict[str, Path]:
        """The stores of the test part, and of the labelled external slides that the fold may predict, by slide."""
        tested = self.rows.loc[self.rows["part"] == "test", "slide_id"]
        columns = label_columns(self.settings["task"], self.settings.get("columns"))
        known = self.labels[is_labelled(self.labels, self.settings["task"], columns)]
        known = known[known["slide_id"].isin(external)]
        allowed = predicting_folds(self.splits, known["patient_id"].unique(), lookalikes)
        outside = known.loc[[self.number in allowed[patient] for patient in known["patient_id"]], "slide_id"]
        return {slide: {**self.development, **external}[slide] for slide in [*sorted(tested), *sorted(outside)]}


def _predict(
    shares: Sequence[Share],
    trained: Members,
    slides: pd.DataFrame,
    paths: Mapping[str, Path],
    settings: Mapping[str, Any],
    recipe: str,
) -> pd.DataFrame:
    """Predicts slides with every training; each slide is read once.

    Args:
        shares: The shares that were trained on.
        trained: Patients -> the models of all seeds.
        slides: The slides' rows of the labels, with the fold.
        paths: The stores in the same order, by slide.
        settings: The model's settings.
        recipe: The recipe of the features.
    """
    models = {patients: [member.model() for member in members] for patients, members in trained.items()}
    raws: dict[frozenset[str], list[list[Array]]] = {patients: [] for patients in models}
    joined = covariates_of(slides, settings)
    for row, (slide, path) in enumerate(paths.items()):
        bag, covariates = read_bag(path, slide, recipe), None if joined is None else joined[row].numpy()
        for patients, members in models.items():
            raws[patients].append(raw_outputs(members, bag, covariates))
    tables = [
        _share_table(
            share, trained[share.patients], [np.stack(of) for of in zip(*raws[share.patients], strict=True)], slides
        )
        for share in shares
        if paths
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*KEYS, *PREDICTIONS])
    first = [column for column in (*KEYS, *PREDICTIONS) if column in table]
    return table[first + [column for column in table if column not in first]]


def _share_table(share: Share, members: Sequence[Trained], raws: Sequence[Array], slides: pd.DataFrame) -> pd.DataFrame:
    """What the models of a share say of slides, in the target's unit.

    Args:
        share: The share.
        members: The models of its seeds.
        raws: Their raw outputs, each (n_slides, n_outputs).
        slides: The slides' rows of the labels, with the fold.
    """
    cards = [{"task_card": member.task_card, "calibration": member.calibration} for member in members]
    means, spread = combine(cards, raws)
    known = [column for column in members[0].task_card["columns"] if column in slides]
    table = slides[["cohort", "slide_id", "patient_id", "center", "fold"]].reset_index(drop=True)
    table = table.assign(fraction=share.fraction, repeat=share.repeat, n_patients=len(share.patients))
    predicted = {name: values for name, values in means.items() if not name.startswith("survival.")}
    labelled = {name: slides[name].to_numpy() for name in known}
    return table.assign(**predicted, **labelled, prediction_sd=spread)
