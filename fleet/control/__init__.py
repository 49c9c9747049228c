"""The controller: registry, releases, rollouts, blobs."""
