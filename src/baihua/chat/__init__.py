"""Layer 2: conversations, their rendering, and the protocols of chat models, scorers and tokenizers."""
