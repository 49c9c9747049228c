"""Will it fit, and how fast: memory and latency of a model on a device before compiling it."""
