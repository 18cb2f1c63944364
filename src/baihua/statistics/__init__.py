"""Layer 2: estimates with their uncertainty; numpy only."""
