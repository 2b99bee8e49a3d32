"""Loading: models from their folders into memory, and how they fit there."""
