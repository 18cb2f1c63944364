"""Layer 2: conversations, how they are rendered, and the protocols of what can answer them."""
