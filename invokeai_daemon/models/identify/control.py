"""Control: ControlNets in all their layouts, and T2I-Adapters; with the IP-Adapters of `image_prompts` one room.

The base is told by the width of the context that their attention takes, or by an input that only one base has.
"""

from __future__ import annotations

from invokeai_daemon.models.identify import image_prompts
from invokeai_daemon.models.identify.table import (
    Choice,
    Family,
    Rule,
    always,
    axis,
    has,
    lacks,
    quietly,
    rank,
    whole,
)
from invokeai_daemon.models.identify.weights import Weights

UNDER = ("control_model.", "controlnet.module.", "controlnet.", "module.", "")

#: The first ControlNets were published with the whole model that they control.
_BEFORE = ("main", "vae", "clip_embed", "clip_vision", "lora")

_DIFFUSERS = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
)
_ORIGINAL = (
    "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight",
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
    "middle_block.1.transformer_blocks.0.attn2.to_k.weight",
)
_TO_K_DOWN = "input_blocks.*.attn2.to_k.down"


def _context(place: int, *patterns: str) -> tuple[tuple[str, Rule], ...]:
    return tuple(
        (base, axis(patterns, place, width, called="context width"))
        for base, width in (("sd-1", 768), ("sd-2", 1024), ("sdxl", 2048))
    )


_KOLORS = has("encoder_hid_proj.weight", called="the text projection of Kolors")
_SIZES = has("add_embedding.linear_1.weight", "label_emb.0.0.weight", called="SDXL's input for sizes")
_DIFFUSERS_BASE = Choice((*_context(1, *_DIFFUSERS), ("sdxl", _SIZES)))
_ORIGINAL_BASE = Choice((*_context(1, *_ORIGINAL), ("sdxl", _SIZES)))

_HINT = has(
    "controlnet_cond_embedding.conv_in.weight", called="the encoder of a control picture under diffusers' names"
)
_ZERO = has("controlnet_down_blocks.0.weight", called="the zero convolutions of a ControlNet")
_ORIGINAL_ZERO = has("zero_convs.0.0.weight", called="the zero convolutions of a ControlNet")
_CONTROL_LORA = "lora_controlnet"


def _difference(weights: Weights) -> str:
    if weights.whole.find("difference") or "difference" in weights.scalars:
        return "it holds only differences to the model it was made from. Drop the full ControlNet of the same name"
    return ""


_NO_BASE = "models of its base are not supported"
_OWN_WAY = "it attaches in a way of its own, which this program has not. Drop an ordinary ControlNet of the same kind"

_STABLE_DIFFUSION: tuple[Family, ...] = (
    Family(
        "controlnet",
        _DIFFUSERS_BASE,
        "a ControlNet in diffusers' layout",
        marks=(_HINT, _ZERO, lacks("task_embedding", called="the inputs of a union ControlNet")),
        rules=(
            quietly(lacks("encoder_hid_proj.weight", called="the text projection of Kolors")),
            quietly(lacks("base_conv_in.weight", called="the UNet that it controls")),
        ),
        under=UNDER,
        dialect=always("diffusers"),
        unusable=_difference,
        before=_BEFORE,
    ),
    Family(
        "controlnet",
        _DIFFUSERS_BASE,
        "a union ControlNet",
        marks=(_HINT, _ZERO, has("task_embedding", called="the inputs of a union ControlNet")),
        under=UNDER,
        dialect=always("diffusers"),
        before=_BEFORE,
    ),
    Family(
        "controlnet",
        "kolors",
        "a ControlNet of Kolors",
        marks=(_HINT, _ZERO, _KOLORS),
        under=UNDER,
        unusable=_NO_BASE,
    ),
    Family(
        "controlnet",
        _ORIGINAL_BASE,
        "a ControlNet in the original layout",
        marks=(
            _ORIGINAL_ZERO,
            has("input_hint_block.0.weight", called="the encoder of a control picture"),
            whole(lacks(_CONTROL_LORA, called="the marker of a Control-LoRA")),
        ),
        under=UNDER,
        dialect=always("ldm"),
        unusable=_difference,
        before=_BEFORE,
    ),
    Family(
        "controlnet",
        Choice((*_context(-1, _TO_K_DOWN), ("sdxl", _SIZES))),
        "a Control-LoRA",
        marks=(whole(has(_CONTROL_LORA, called="the marker of a Control-LoRA")), _ORIGINAL_ZERO),
        under=UNDER,
        unusable="a Control-LoRA is completed from the model it is used with, which this program does not do. "
        "Drop the full ControlNet of the same kind",
        before=_BEFORE,
    ),
    Family(
        "controlnet",
        Choice(
            (
                ("sd-1", has("lllite_unet_input_blocks_1_1_*", called="blocks that only SD-1 has")),
                ("sdxl", lacks("lllite_unet_input_blocks_1_1_*", called="blocks that only SD-1 has")),
            )
        ),
        "a ControlNet-LLLite",
        marks=(has("lllite_unet_*", called="the layers of ControlNet-LLLite"),),
        unusable=_OWN_WAY,
    ),
    Family(
        "controlnet",
        "anima",
        "a ControlNet-LLLite of Anima",
        marks=(has("lllite_dit_blocks_*", called="the layers of ControlNet-LLLite"),),
        unusable=_NO_BASE,
    ),
    Family(
        "controlnet",
        Choice(_context(1, "down_blocks.*.attn2.to_k.weight", "mid_block.*.attn2.to_k.weight")),
        "a ControlNet-XS",
        marks=(has("control_to_base_for_conv_in.weight", called="the connections of ControlNet-XS"),),
        unusable=_OWN_WAY,
    ),
    Family(
        "controlnet",
        "sd-1",
        "a sparse ControlNet of AnimateDiff",
        marks=(
            has("controlnet_down_blocks.0.weight", called="the zero convolutions of a ControlNet"),
            has("down_blocks.0.motion_modules.*", called="motion modules"),
        ),
        under=UNDER,
        unusable="it is for videos, and this program makes pictures",
    ),
)

_BLOCKS = has("controlnet_blocks.0.weight", "controlnet_blocks.0.linear.weight", called="the outputs of a ControlNet")

_TRANSFORMERS: tuple[Family, ...] = (
    Family(
        "controlnet",
        "flux",
        "a FLUX ControlNet by InstantX or Shakker",
        marks=(
            _BLOCKS,
            has("controlnet_x_embedder.weight", called="its input for a control picture"),
            lacks(
                "transformer_blocks.0.img_mod.*", "transformer_blocks.0.img_mlp.*", called="the blocks of Qwen-Image"
            ),
        ),
        rules=(has("transformer_blocks.0.attn.add_q_proj.weight", called="the blocks of FLUX"),),
        under=UNDER,
    ),
    Family(
        "controlnet",
        "flux",
        "a FLUX ControlNet by XLabs",
        marks=(_BLOCKS, has("double_blocks.0.img_attn.*", called="the blocks of FLUX under their original names")),
        under=UNDER,
        before=("main",),
    ),
    Family(
        "controlnet",
        "sd-3",
        "an SD-3 ControlNet",
        marks=(
            _BLOCKS,
            has("pos_embed_input.proj.weight", called="its input for a control picture"),
            lacks("double_blocks.*", called="the blocks of FLUX"),
        ),
        under=UNDER,
    ),
    Family(
        "controlnet",
        "qwen-image",
        "a Qwen-Image ControlNet",
        marks=(
            has("controlnet_x_embedder.weight", "control_img_in.weight", called="its input for a control picture"),
            has(
                "transformer_blocks.0.img_mod.*",
                "transformer_blocks.0.img_mlp.*",
                "control_blocks.0.img_mod.*",
                "control_blocks.0.img_mlp.*",
                "control_blocks.0.after_proj.weight",
                called="the blocks of Qwen-Image",
            ),
        ),
        under=UNDER,
    ),
    Family(
        "controlnet",
        "qwen-image",
        "a Qwen-Image ControlNet by DiffSynth",
        marks=(
            has("controlnet_blocks.0.x_rms.weight", called="the norms of its blocks"),
            has("controlnet_blocks.0.input_proj.weight", called="the inputs of its blocks"),
        ),
        under=UNDER,
        unusable=_OWN_WAY,
    ),
    Family(
        "controlnet",
        "z-image",
        "a Z-Image ControlNet",
        marks=(
            has(
                "control_layers.0.*",
                "control_all_x_embedder.*",
                "control_noise_refiner.*",
                called="the control layers of Z-Image",
            ),
            lacks("cap_embedder.*", called="the whole of Z-Image"),
        ),
        under=("module.", ""),
    ),
    Family(
        "controlnet",
        "hunyuan-dit",
        "a HunyuanDiT ControlNet",
        marks=(
            has("after_proj_list.0.weight", "controlnet_blocks.0.weight", called="the outputs of a ControlNet"),
            has("mlp_t5.0.weight", "blocks.0.attn2.to_q.*", called="HunyuanDiT's inputs"),
        ),
        under=UNDER,
        unusable=_NO_BASE,
    ),
    Family(
        "controlnet",
        "sana",
        "a Sana ControlNet",
        marks=(
            has("input_block.weight", called="its input for a control picture"),
            has("controlnet_blocks.0.weight", called="the outputs of a ControlNet"),
            has("caption_norm.weight", called="Sana's text input"),
        ),
        under=UNDER,
        unusable=_NO_BASE,
    ),
    Family(
        "controlnet",
        "cosmos",
        "a Cosmos ControlNet",
        marks=(
            has("patch_embed_base.proj.weight", called="its input for a control picture"),
            has("control_blocks.0.*", called="its control blocks"),
        ),
        under=UNDER,
        unusable=_NO_BASE,
    ),
)

_PICTURE = ("conv_in.weight", "body.0.in_conv.weight", "adapter.conv_in.weight")
_T2I_BASE = Choice(
    (
        ("sdxl", axis(_PICTURE, 1, 768, 256, called="input channels (a picture in blocks of 16 pixels)")),
        ("sd-1", axis(_PICTURE, 1, 192, 64, called="input channels (a picture in blocks of 8 pixels)")),
    )
)

_T2I: tuple[Family, ...] = (
    Family(
        "t2i_adapter",
        _T2I_BASE,
        "a T2I-Adapter",
        marks=(
            has(
                "body.0.resnets.0.block1.weight",
                "body.0.block1.weight",
                called="the blocks of a T2I-Adapter",
            ),
            has("conv_in.weight", called="its input for a control picture"),
        ),
        rules=(rank("conv_in.weight", 4, called="a convolution over pictures"),),
        under=("adapter.", "module.", ""),
    ),
    Family(
        "t2i_adapter",
        _T2I_BASE,
        "a light T2I-Adapter",
        marks=(
            has("body.0.in_conv.weight", called="the blocks of a light T2I-Adapter"),
            has("body.0.resnets.0.block1.weight", "body.0.body.0.block1.weight", called="its residual blocks"),
            lacks("conv_in.weight", called="the input of a full T2I-Adapter"),
        ),
        under=("adapter.", "module.", ""),
    ),
    Family(
        "t2i_adapter",
        "sd-1",
        "a style T2I-Adapter",
        marks=(
            has("transformer_layes.0.attn.in_proj_weight", called="the layers of a style adapter"),
            has("style_embedding", called="a style embedding"),
        ),
        unusable="style adapters look at a picture through CLIP, which this program does with IP-Adapters only",
    ),
    Family(
        "t2i_adapter",
        "sd-1",
        "a fuser of co-adapters",
        marks=(has("spatial_ch_projs.*.weight", called="the projections of a fuser"), has("ln_pre.*", called="a norm")),
        unusable="it joins several T2I-Adapters of its own kind, which this program does not do",
    ),
)

FAMILIES: tuple[Family, ...] = (*_STABLE_DIFFUSION, *_TRANSFORMERS, *_T2I, *image_prompts.FAMILIES)
