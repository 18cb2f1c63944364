"""One file per data format; the file's name is the format's `kind` in a recipe."""
