"""The engine: torch and diffusers. Pipelines, prompts, schedulers, and the one denoise loop over lanes."""
