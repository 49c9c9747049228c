"""Who may say what: ed25519 keys, signed envelopes, the keys that a device trusts."""
