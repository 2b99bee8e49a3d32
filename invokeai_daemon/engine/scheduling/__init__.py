"""Scheduling: the schedulers of diffusers by InvokeAI's names, and those that diffusers lacks."""
