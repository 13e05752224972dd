"""Nested search of hyper-parameters: inner folds, proposals and their journal, the search itself, and its outcome.

Only the search imports optuna; `outcome` is read by every training.
"""
