"""Layer 2: model folders and GGUF files as they are on disk, without torch."""
