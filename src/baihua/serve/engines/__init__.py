"""What can compute for the API: here, elsewhere, or many times over."""
