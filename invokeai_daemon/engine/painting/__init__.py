"""Painting: the arithmetic of pictures, masks and what is filled in. Nothing here denoises."""
