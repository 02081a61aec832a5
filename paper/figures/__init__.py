"""What codes look like: figures 3 and 4 of the paper."""
