"""The starter set: hand-written Chinese conversations, one JSON Lines file per category, CC0."""
