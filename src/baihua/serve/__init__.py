"""Layer 4: ways to talk to a model."""
