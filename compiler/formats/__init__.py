"""The formats, one file each, imported on first use."""
