"""The fleet's commands."""
