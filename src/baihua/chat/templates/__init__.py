"""One file per chat template; the file's name is the template's name in a recipe."""
