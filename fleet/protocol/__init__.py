"""What devices and controllers say to each other: topics, documents, their encoding."""
