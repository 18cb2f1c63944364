"""Layer 4: GGUF files and their quantization levels."""
