"""Agreement and discrimination of models on development and external cohorts."""
