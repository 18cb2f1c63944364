"""llama.cpp in this process, through the xllamacpp wheel."""
