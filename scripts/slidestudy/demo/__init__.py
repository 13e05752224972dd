"""A deterministic generator of a procedural H&E-like multi-cohort study with known truth."""
