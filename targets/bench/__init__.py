"""Measure bundles: `edgeward bench`, and the clocks and counters that others time by."""
