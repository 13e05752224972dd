"""Bags, splits, models, training and prediction."""
