"""Layer 3: one file per thing that answers; each opens a ChatModel, some also a Scorer."""
