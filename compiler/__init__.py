"""From a Hugging Face model to a proved bundle."""
