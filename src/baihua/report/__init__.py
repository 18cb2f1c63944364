"""Layer 5: artifacts become HTML and Markdown."""
