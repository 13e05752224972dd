"""Bags, splits, multiple-instance models, training and prediction."""
