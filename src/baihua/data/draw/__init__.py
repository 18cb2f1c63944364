"""Mix, subset and split data, reproducibly by seed."""
