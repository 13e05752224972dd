"""Training, validation and test parts between which nothing leaks.

`make_splits` deals the labelled slides by a `SplitScheme`; `check_disjoint` refuses an overlap, however the parts came
about; `testing_folds` and `predicting_folds` say which folds may predict a patient.
"""

from slidestudy.models.splits.checks import PARTS, check_disjoint, check_labels
from slidestudy.models.splits.dealing import make_splits, splits_for
from slidestudy.models.splits.folds import no_splits, predicting_folds, testing_folds
from slidestudy.models.splits.scheme import SplitScheme, count_folds
from slidestudy.models.splits.split_tables import read_split_table

__all__ = [
    "PARTS",
    "SplitScheme",
    "check_disjoint",
    "check_labels",
    "count_folds",
    "make_splits",
    "no_splits",
    "predicting_folds",
    "read_split_table",
    "splits_for",
    "testing_folds",
]
