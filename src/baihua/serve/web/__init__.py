"""What every server of ours shares: who may ask, how much, how errors look, and how it stops."""
