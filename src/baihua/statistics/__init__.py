"""Layer 2: figures with their uncertainty; numpy only."""
