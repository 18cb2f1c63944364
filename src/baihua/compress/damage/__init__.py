"""What a quantization level costs, measured through llama.cpp."""
