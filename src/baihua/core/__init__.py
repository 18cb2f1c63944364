"""Layer 1: configs, recipes, stages, artifacts, files and messages; no machine learning."""
