"""Blind comparison of models: answers side by side, votes and ratings."""
