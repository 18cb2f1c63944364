"""Layer 4: batches, loss, methods and the one training loop."""
