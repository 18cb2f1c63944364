"""One file per filter; the file's name is the filter's `kind` in a recipe. See `data/verdicts.py` for their forms."""
