"""Entries: what the registry holds of a model, how it stands in the file, and what is known beside it."""
