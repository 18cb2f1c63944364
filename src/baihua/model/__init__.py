"""Layer 3: models from their sources, loaded, merged, compared, and written as model folders."""
