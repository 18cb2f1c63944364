"""Layer 3: chat backends, one file or folder each; every one opens a ChatModel, some also a Scorer."""
