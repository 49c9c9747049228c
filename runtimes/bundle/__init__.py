"""The bundle: a plain folder that a manifest describes and a digest names."""
