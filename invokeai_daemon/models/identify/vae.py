"""VAE: encoders and decoders between pictures and latents."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Choice, Family, has, lacks

FAMILIES: tuple[Family, ...] = (
    Family(
        "vae",
        Choice(()),
        "a VAE",
        marks=(
            has(
                "first_stage_model.encoder.*",
                "first_stage_model.decoder.*",
                "encoder.conv_in.*",
                "decoder.conv_in.*",
                called="the encoder or decoder of a VAE",
            ),
            lacks("model.diffusion_model.*", called="a denoiser"),
        ),
    ),
)
