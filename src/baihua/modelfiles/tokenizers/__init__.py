"""Tokenizers of model folders and GGUF files, and their conversion in both directions."""
