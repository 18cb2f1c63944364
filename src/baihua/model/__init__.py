"""Layer 3: weights and tokenizers at rest and in memory."""
