"""One file a family of metrics, each computed by the library that its field uses."""
