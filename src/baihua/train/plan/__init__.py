"""Planning a training: memory, machines, time and cost."""
