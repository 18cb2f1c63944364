"""Figures, topics, clusters of copies and unusual rows of a data set."""
