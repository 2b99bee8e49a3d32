"""Results: PNG files with metadata, their names and folders."""
