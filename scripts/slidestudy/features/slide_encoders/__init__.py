"""Slide encoders: the feature store of a slide in, one vector out."""
