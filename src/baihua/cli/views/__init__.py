"""What `show` prints, one file for each kind of thing."""
