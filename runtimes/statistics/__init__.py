"""What an endpoint observes of itself: sketches, recorder, spool."""
