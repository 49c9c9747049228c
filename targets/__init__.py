"""What we know of the devices: profiles, probe, benchmark harness."""
