"""Upscalers and face restorers: networks from pictures to pictures."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Family, has, lacks

FAMILIES: tuple[Family, ...] = (
    Family(
        "spandrel_image_to_image",
        "any",
        "an upscaler",
        marks=(
            has(
                "conv_first.*",
                "params_ema.*",
                "params.conv_first.*",
                "model.0.weight",
                called="the layers of an upscaler",
            ),
            lacks("*.lora_down.weight", "*.lora_A.weight", called="low-rank matrices"),
        ),
    ),
)
