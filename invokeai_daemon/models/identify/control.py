"""Control: ControlNets, T2I-Adapters and IP-Adapters."""

from __future__ import annotations

from invokeai_daemon.models.identify.table import Choice, Family, axis, has, lacks

_NO_UNET = lacks("model.diffusion_model.input_blocks.*", called="a UNet in the layout of the original Stable Diffusion")


def _base(*patterns: str) -> Choice:
    return Choice(
        tuple(
            (base, axis(patterns, 1, width, called="context width"))
            for base, width in (("sd-1", 768), ("sd-2", 1024), ("sdxl", 2048))
        )
    )


FAMILIES: tuple[Family, ...] = (
    Family(
        "controlnet",
        _base(
            "control_model.*.attn2.to_k.weight", "input_blocks.*.attn2.to_k.weight", "down_blocks.*.attn2.to_k.weight"
        ),
        "a ControlNet",
        marks=(
            has(
                "control_model.*",
                "controlnet_mid_block.*",
                "controlnet_cond_embedding.*",
                "controlnet_blocks.*",
                "input_hint_block.*",
                called="the control branch of a ControlNet",
            ),
        ),
    ),
    Family(
        "ip_adapter",
        _base("ip_adapter.1.to_k_ip.weight"),
        "an IP-Adapter",
        marks=(
            has("ip_adapter.*", "image_proj.*", "ip_adapter_proj_model.*", called="the projections of an IP-Adapter"),
            _NO_UNET,
        ),
    ),
    Family(
        "t2i_adapter",
        Choice(()),
        "a T2I-Adapter",
        marks=(
            has("adapter.body.*", "body.0.resnets.*", "adapter.conv_in.*", called="the blocks of a T2I-Adapter"),
            _NO_UNET,
        ),
    ),
)
