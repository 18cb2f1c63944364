"""What is seen in data: figures, topics, clusters of copies, odd rows."""
