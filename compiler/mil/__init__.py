"""A reference evaluator for Core ML programs: a saved package, run operator by operator."""
