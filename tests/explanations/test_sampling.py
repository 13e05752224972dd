"""The frozen sample: balanced, limited, seeded, and drawn from the tiles alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.explanations.sampling import SAMPLE, STRATA, assign_strata, patch_name, sample_patches

SETTINGS = {"per_stratum": 10, "max_per_slide": 3, "near": 0.5, "unit": "sd", "min_tissue": 0.5, "seed": 7}
DEVELOPMENT = np.random.default_rng(99).normal(0.3, 2, 5000)


def tile_grid(slides: int = 12, per_slide: int = 60, seed: int = 0, spread: float = 2.0) -> pd.DataFrame:
    """Tiles of slides whose logits spread over all strata."""
    rng, tables = np.random.default_rng(seed), []
    for slide in range(slides):
        logits = rng.normal(0.3, spread, per_slide)
        tables.append(pd.DataFrame({
            "slide_id": f"s{slide}", "patient_id": f"p{slide // 2}", "cohort": f"c{slide % 2}",
            "x": 128 * (np.arange(per_slide) % 8), "y": 128 * (np.arange(per_slide) // 8), "mpp": 0.5,
            "score": 1 / (1 + np.exp(-logits)), "logit": logits, "attention_logit": rng.normal(size=per_slide),
            "tissue_fraction": rng.uniform(0.2, 1, per_slide),
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


TILES = tile_grid()


def test_strata_hold_equally_many_patches():
    counts = sample_patches(DEVELOPMENT, TILES, SETTINGS).table["stratum"].value_counts()
    assert counts.to_dict() == dict.fromkeys(STRATA, 10)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    slides=st.integers(2, 12),
    per_stratum=st.integers(2, 30),
    limit=st.integers(1, 5),
    near=st.floats(0.2, 1.0),
)
def test_a_sample_keeps_every_promise(seed, slides, per_stratum, limit, near):
    tiles = tile_grid(slides, seed=seed)
    wanted = {**SETTINGS, "per_stratum": per_stratum, "max_per_slide": limit, "near": near, "seed": seed}
    with_tissue = tiles[tiles["tissue_fraction"] >= 0.5]
    distance = (with_tissue["logit"] - np.median(DEVELOPMENT)) / np.std(DEVELOPMENT)
    bands = pd.cut(distance, [-np.inf, -near, 0, near, np.inf], labels=STRATA[::-1])
    per_slide = with_tissue.groupby([bands, with_tissue["slide_id"]], observed=False).size()
    available = int(per_slide.clip(upper=limit).groupby(level=0, observed=False).sum().min())
    if available < 2:
        with pytest.raises(StudyError, match=f"has {available} patches"):
            sample_patches(DEVELOPMENT, tiles, wanted)
        return
    table = sample_patches(DEVELOPMENT, tiles, wanted).table
    assert list(table.columns) == SAMPLE
    assert table["stratum"].value_counts().to_dict() == dict.fromkeys(STRATA, min(available, per_stratum))
    assert table.groupby(["stratum", "slide_id"]).size().max() <= limit
    assert table["patch_id"].is_unique
    # Every patch is a candidate, unchanged, with tissue enough and of its own stratum.
    joined = table.merge(tiles, on=["slide_id", "x", "y"], suffixes=("", "_tile"), validate="one_to_one")
    assert len(joined) == len(table)
    assert (joined["tissue_fraction"] >= 0.5).all()
    for column in ("logit", "score", "attention_logit", "patient_id", "cohort", "mpp"):
        assert (joined[column] == joined[f"{column}_tile"]).all()
    distance = (table["logit"] - np.median(DEVELOPMENT)) / np.std(DEVELOPMENT)
    bounds = {"very_high": (near, np.inf), "high_near": (0, near), "low_near": (-near, 0), "very_low": (-np.inf, -near)}
    for stratum, (low, high) in bounds.items():
        assert distance[table["stratum"] == stratum].between(low, high).all()


def test_the_threshold_is_the_median_of_the_development_tiles_whatever_is_drawn_from():
    first = sample_patches(DEVELOPMENT, TILES, SETTINGS)
    second = sample_patches(DEVELOPMENT, tile_grid(seed=5, spread=4), SETTINGS)
    assert first.threshold == second.threshold == np.median(DEVELOPMENT)
    assert first.spread == second.spread == np.std(DEVELOPMENT)


def test_a_published_threshold_takes_the_place_of_the_median_and_leaves_the_unit():
    usual, published = (
        sample_patches(DEVELOPMENT, TILES, SETTINGS),
        sample_patches(DEVELOPMENT, TILES, SETTINGS, -0.135),
    )
    assert (published.threshold, published.spread) == (-0.135, usual.spread)
    assert (usual.threshold_published, published.threshold_published) == (False, True)
    high = published.table["stratum"].isin(["very_high", "high_near"])
    assert ((published.table["logit"] > -0.135) == high).all()
    # At the median's place, a threshold draws the same patches, wherever it comes from.
    assert sample_patches(DEVELOPMENT, TILES, SETTINGS, usual.threshold).digest == usual.digest


def test_a_threshold_of_zero_is_one():
    sample = sample_patches(DEVELOPMENT + 1, TILES, SETTINGS, 0.0)
    assert (sample.threshold, sample.threshold_published) == (0.0, True)


def test_tiles_without_defined_attention_are_drawn():
    drawn = sample_patches(DEVELOPMENT, TILES.assign(attention_logit=np.nan), SETTINGS)
    assert drawn.digest == sample_patches(DEVELOPMENT, TILES, SETTINGS).digest


def test_the_label_of_a_patch_follows_from_its_stratum():
    sample = sample_patches(DEVELOPMENT, TILES, SETTINGS)
    high = sample.table["stratum"].isin(["very_high", "high_near"])
    assert ((sample.table["logit"] > sample.threshold) == high).all()


def test_a_logit_on_a_border_belongs_to_the_stratum_nearer_the_threshold_or_below_it():
    logits = np.array([1.0 + 1e-9, 1.0, 1e-9, 0.0, -1.0 + 1e-9, -1.0])
    expected = ["very_high", "high_near", "high_near", "low_near", "low_near", "very_low"]
    assert assign_strata(logits, 0.0, 2.0, 0.5).tolist() == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_the_candidates_does_not_matter(seed):
    shuffled = TILES.sample(frac=1, random_state=seed)
    straight, other = sample_patches(DEVELOPMENT, TILES, SETTINGS), sample_patches(DEVELOPMENT, shuffled, SETTINGS)
    pd.testing.assert_frame_equal(straight.table, other.table)
    assert straight.digest == other.digest


def test_a_seed_gives_the_same_sample_and_another_seed_another():
    first, again, other = (
        sample_patches(DEVELOPMENT, TILES, {**SETTINGS, "seed": s}).table["patch_id"].tolist() for s in (1, 1, 2)
    )
    assert first == again
    assert set(first) != set(other)


def test_the_digest_is_of_the_patches():
    first = sample_patches(DEVELOPMENT, TILES, SETTINGS)
    other = sample_patches(DEVELOPMENT, TILES, {**SETTINGS, "seed": 8})
    assert first.digest != other.digest
    # Another threshold moves patches between strata: another sample too.
    assert sample_patches(DEVELOPMENT + 0.5, TILES, SETTINGS).digest != first.digest


def test_a_stratum_with_few_tiles_shrinks_all():
    few = TILES[(TILES["logit"] < 1.3) | (TILES.index % 40 == 0)]
    wanted = {**SETTINGS, "per_stratum": 100, "max_per_slide": 100}
    counts = sample_patches(DEVELOPMENT, few, wanted).table["stratum"].value_counts()
    strata = assign_strata(few["logit"].to_numpy(), float(np.median(DEVELOPMENT)), float(np.std(DEVELOPMENT)), 0.5)
    scarce = int(((strata == "very_high") & (few["tissue_fraction"] >= 0.5)).sum())
    assert 2 <= scarce < 30
    assert counts.to_dict() == dict.fromkeys(STRATA, scarce)


def test_a_stratum_without_tiles_is_refused_and_named():
    with pytest.raises(StudyError, match="the stratum very_high has 0 patches"):
        sample_patches(DEVELOPMENT, TILES[TILES["logit"] < 1.2], SETTINGS)


def test_a_minimum_of_tissue_that_no_tile_reaches_is_refused():
    with pytest.raises(StudyError, match="has 0 patches"):
        sample_patches(DEVELOPMENT, TILES, {**SETTINGS, "min_tissue": 1.01})


def test_tiles_of_unknown_tissue_fraction_are_drawn_only_where_none_is_demanded():
    unknown = TILES.assign(tissue_fraction=np.nan)
    with pytest.raises(StudyError, match="tissue fraction of the tiles is unknown") as caught:
        sample_patches(DEVELOPMENT, unknown, SETTINGS)
    assert "min_tissue: 0" in str(caught.value)
    wanted = {**SETTINGS, "min_tissue": 0}
    assert sample_patches(DEVELOPMENT, unknown, wanted).digest == sample_patches(DEVELOPMENT, TILES, wanted).digest


@pytest.mark.parametrize("development", [np.full(50, 0.7), np.array([0.1, np.nan])])
def test_a_model_without_spread_is_refused(development):
    with pytest.raises(StudyError, match="gives every tile the same score"):
        sample_patches(development, TILES, SETTINGS)


def test_a_patch_is_named_by_slide_place_and_resolution():
    assert patch_name("N01-1", 1024, 0, 0.5) == "N01-1/1024-0-0.5"
    assert patch_name("N01-1", np.int32(7), np.int32(8), 1.14) == "N01-1/7-8-1.1"


def test_distances_can_be_in_logits():
    wide = {**SETTINGS, "unit": "logit", "near": 2 * SETTINGS["near"]}
    reference = DEVELOPMENT / np.std(DEVELOPMENT) * 2
    assert np.std(reference) == pytest.approx(2)
    in_logits, in_sd = (sample_patches(reference, TILES, options).table for options in (wide, SETTINGS))
    pd.testing.assert_frame_equal(in_logits, in_sd)
    other = sample_patches(reference, TILES, {**SETTINGS, "unit": "logit"}).table
    assert not other["patch_id"].equals(in_sd["patch_id"])


def test_strata_are_balanced_within_each_value_of_a_covariate():
    tiles = TILES.assign(covariate=np.where(TILES["patient_id"].isin(["p0", "p1"]), "few", "many"))
    tiles.loc[tiles["patient_id"] == "p2", "covariate"] = None
    table = sample_patches(DEVELOPMENT, tiles, {**SETTINGS, "per_stratum": 9}).table
    counts = table.groupby(["stratum", "covariate"]).size()
    assert counts.to_dict() == {(stratum, value): 4 for stratum in STRATA for value in ("few", "many")}
    assert "p2" not in set(table["patient_id"])
    assert table["stratum"].drop_duplicates().tolist() == list(STRATA)


def test_a_value_of_the_covariate_with_too_few_tiles_is_named():
    tiles = TILES.assign(covariate=np.where(TILES.index < 3, "rare", "usual"))
    with pytest.raises(StudyError, match="of the value 'rare' has"):
        sample_patches(DEVELOPMENT, tiles, SETTINGS)
    halves = TILES.assign(covariate=TILES["cohort"])
    with pytest.raises(StudyError, match="per_stratum leaves 1 patches of the value"):
        sample_patches(DEVELOPMENT, halves, {**SETTINGS, "per_stratum": 3})
    with pytest.raises(StudyError, match="no slide has a value"):
        sample_patches(DEVELOPMENT, TILES.assign(covariate=None), SETTINGS)
