"""A cohort with a planted signal, and a search of one of its folds that was never interrupted."""

from __future__ import annotations

import pytest
from tests.models.builders import write_cohort
from tests.models.searching.planted_search import NO_PAIRS, SETTINGS, run

from slidestudy.models.cohort import split_development


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Labels, stores and splits of 15 patients with two slides each."""
    labels, stores = write_cohort(tmp_path_factory.mktemp("dev"), patients=15)
    return labels, stores, split_development(labels, stores, SETTINGS, NO_PAIRS)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """An uninterrupted search and its folder."""
    output = tmp_path_factory.mktemp("search") / "fold-1"
    return run(study, output), output
