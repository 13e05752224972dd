"""The command line: check a study, start one from a folder, generate the demo."""
