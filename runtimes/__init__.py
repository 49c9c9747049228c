"""Ground floor: bundles, engine sessions, tasks, endpoint statistics, the local server."""
