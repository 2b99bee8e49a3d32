"""Texts: from prompts to what text encoders say about them."""
