"""Jobs on the device: taken once, run in a child between updates, reported until it is known."""
