"""The compiler's commands; each in a file of its own, imported when it is called."""
