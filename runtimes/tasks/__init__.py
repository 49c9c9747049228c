"""What a model is for, one task a file."""
