"""Recipes that an installed Baihua brings along."""
