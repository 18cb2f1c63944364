"""Layer 5: one file per stage; the file's name is the stage's name in a recipe."""
