"""LoRA: low-rank changes to a model, in the dialects that circulate."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Choice, Family, axis, has, lacks

_CONTEXT = (
    "lora_unet_*attn2_to_k.lora_down.weight",
    "lora_unet_*attn2_to_k.hada_w1_b",
    "unet.*.attn2.to_k.lora_A.weight",
)

FAMILIES: tuple[Family, ...] = (
    Family(
        "lora",
        Choice(
            tuple(
                (base, axis(_CONTEXT, 1, width, called="context width"))
                for base, width in (("sd-1", 768), ("sd-2", 1024), ("sdxl", 2048))
            )
        ),
        "a LoRA",
        marks=(
            has(
                "*.lora_down.weight",
                "*.lora_A.weight",
                "*.hada_w1_a",
                "*.lokr_w1",
                "*.lokr_w1_a",
                "*to_k_lora.up.weight",
                called="low-rank matrices",
            ),
            lacks(
                "model.diffusion_model.input_blocks.*", called="a UNet in the layout of the original Stable Diffusion"
            ),
        ),
        format="lycoris",
    ),
)
