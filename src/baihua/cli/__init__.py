"""Layer 6: the verbs of the command line."""
