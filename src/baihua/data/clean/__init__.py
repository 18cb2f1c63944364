"""The filter pipeline: run filters over rows, find duplicates, count what was dropped."""
