"""Readers of weight files, one module per format; `models.header` is their door. None of them imports torch."""
