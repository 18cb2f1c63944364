"""llama.cpp in this process, from the xllamacpp wheel."""
