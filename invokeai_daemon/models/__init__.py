"""Models: what a file is (header, identify), how it becomes a diffusers folder (convert), what is known (registry)."""
