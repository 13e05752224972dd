"""Validates one model on every cohort."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table, write_table
from slidestudy.validation.agreement import agree
from slidestudy.validation.agreement_figure import draw_agreement
from slidestudy.validation.calibration_curves import calibrate
from slidestudy.validation.calibration_figure import draw_calibration
from slidestudy.validation.cohort_levels import cohort_levels
from slidestudy.validation.figures import roc, scatter
from slidestudy.validation.forest_figure import draw_forest
from slidestudy.validation.pooling import pool_cohorts
from slidestudy.validation.study import validate
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    predictions = {cohort: load_table(path) for cohort, path in zip(roles, snakemake.input.predictions, strict=True)}
    truth = load_table(snakemake.input.truth[0]) if snakemake.input.truth else None
    metrics, against_truth = validate(predictions, roles, settings, truth)
    scatter(predictions, metrics, settings, snakemake.output.scatter)
    roc(predictions, metrics, settings, snakemake.output.roc)
    levels = cohort_levels(predictions, roles, settings)
    calibration, agreement = calibrate(levels, settings), agree(levels, settings)
    pooled = pool_cohorts(levels, settings)
    draw_calibration(calibration, list(predictions), settings, snakemake.output.calibration_figure)
    draw_agreement(predictions, agreement, settings, snakemake.output.bland_altman)
    draw_forest(metrics, pooled, settings, snakemake.output.forest)
    write_table(snakemake.output.calibration, calibration.bins)
    write_table(snakemake.output.calibration_fit, calibration.fits)
    write_table(snakemake.output.calibration_curve, calibration.curves)
    write_table(snakemake.output.agreement, agreement)
    write_table(snakemake.output.pooled, pooled)
    write_table(snakemake.output.truth, against_truth)
    write_table(snakemake.output.metrics, metrics)
