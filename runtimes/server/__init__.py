"""The local server: a bundle behind an OpenAI-compatible HTTP endpoint."""
