"""Layer 3: reading text in any format, and the starter set."""
