"""Speed ratios against named references, run by `make bench`; nothing here passes or fails by the clock."""
