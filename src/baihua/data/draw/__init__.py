"""Mixing, taking subsets and splitting, reproducibly by seed."""
