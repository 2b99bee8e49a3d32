"""Hostile files, made here byte by byte, and what becomes of them."""
