"""Admission, inspection and reading of slides."""
