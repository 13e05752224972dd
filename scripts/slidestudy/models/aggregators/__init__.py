"""Aggregators: from packed bags to the slides' outputs. `slidestudy.models.mil` has them by name."""
