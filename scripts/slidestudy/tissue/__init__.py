"""Tissue masks as polygons in level-0 pixels."""
