"""Holding an artifact against the original: comparison, golden inputs, verdict."""
