"""What metrics are called in tables."""

METRIC_NAMES = {
    "pearson": "Pearson r",
    "spearman": "Spearman \N{GREEK SMALL LETTER RHO}",
    "ccc": "Concordance (CCC)",
    "mse": "Mean squared error",
    "mae": "Mean absolute error",
    "icc": "Intraclass correlation (ICC)",
    "r2": "Coefficient of determination R\N{SUPERSCRIPT TWO}",
    "auroc": "AUROC",
    "auroc_delong": "AUROC, DeLong interval",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "accuracy": "Accuracy",
    "explained_variance": "Explained variance",
    "auroc_macro": "AUROC, mean of classes",
    "average_precision_macro": "Average precision, mean of classes",
    "balanced_accuracy": "Balanced accuracy",
    "pearson_mean": "Pearson r, mean of targets",
    "spearman_mean": "Spearman \N{GREEK SMALL LETTER RHO}, mean of targets",
    "explained_variance_mean": "Explained variance, mean of targets",
    "c_index": "C-index (Harrell)",
    "c_index_uno": "C-index (Uno)",
    "integrated_brier": "Integrated Brier score",
}
UNBOUNDED = {"mse", "mae"}
"""Metrics in the target's unit, written with three significant digits; all others with two decimals."""
