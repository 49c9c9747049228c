"""What models are traced with and proved on, one file a modality."""
