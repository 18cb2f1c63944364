"""The cost of quantization levels, measured through llama.cpp."""
