"""The agent's states, one class each."""
