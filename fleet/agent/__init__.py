"""The agent on a device: journal, states, download, gate, service."""
