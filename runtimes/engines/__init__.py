"""The inference engines, one file each, imported on first use.

A wheel of its own adds one through the entry-point group `edgeward.engines`.
"""
