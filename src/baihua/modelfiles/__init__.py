"""Layer 2: the contents of model folders and GGUF files, read and written without torch."""
