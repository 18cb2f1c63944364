"""One file per filter; its name is the `kind` in a recipe. `data/clean/contract.py` lists what it may define."""
