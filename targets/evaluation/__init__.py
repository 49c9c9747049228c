"""Metrics of a bundle on labelled data, gates on them, and whether two bundles differ."""
