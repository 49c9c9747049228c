"""Over-the-air delivery: protocol, agent, controller."""
