"""Figures, topics, clusters of copies and outliers of a data set."""
