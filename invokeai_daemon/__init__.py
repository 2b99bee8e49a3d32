"""InvokeAI's capabilities as a filesystem-driven daemon: drop a model, drop a job, get pictures."""

__version__ = "0.1.0"
