"""What lies in a Core ML bundle to complete its proof on a Mac or a phone."""
