"""Spool: files as state. A job is in exactly one folder, and a step of its life is one rename."""
