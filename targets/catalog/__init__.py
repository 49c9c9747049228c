"""The profiles that come with edgeward, one TOML file each; see `edgeward.targets.load`."""
