"""The daemon loop: scan, settle, claim, hand to a worker, record. Never imports torch."""
