"""Tile grids, encoders and the Zarr feature store."""
