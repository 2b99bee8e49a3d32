"""Encoders: CLIP, T5 and other encoders of texts and pictures, alone in a file."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Family, has, lacks

FAMILIES: tuple[Family, ...] = (
    Family(
        "clip_embed",
        "any",
        "a CLIP text encoder",
        marks=(
            has("text_model.encoder.*", "text_model.embeddings.*", called="a CLIP text encoder, alone"),
            lacks("*.lora_down.weight", "*.lora_A.weight", called="low-rank matrices"),
        ),
    ),
)
