"""Main models that make videos, and the picture models that share their blocks (Hunyuan-Image, Anima, Cosmos).

They are known by name and cannot be used yet. Wan's variants follow from what its first layer takes and how wide it is.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.main_parts import known_by_name as _main
from invokeai_daemon.models.identify.rules import Likely, named
from invokeai_daemon.models.identify.table import Family, Rule, always, axis, both, has, lacks, rank, unless

# Wan

_PATCHES = "patch_embedding.weight"
_TEXT = has("text_embedding.0.*", "condition_embedder.text_embedder.linear_1.*", called="the text embedding of Wan")
_BLOCKS = has("blocks.0.self_attn.q.*", "blocks.0.attn1.to_q.*", called="the blocks of Wan")
_EXTENSIONS = (
    "vace_blocks.*",
    "vace_patch_embedding.*",
    "motion_encoder.*",
    "casual_audio_encoder.*",
    "control_adapter.*",
    "ref_conv.*",
    "patch_short.*",
)
_EXTENDED = has(*_EXTENSIONS, called="layers that Wan itself has not")
_NO_PICTURES = lacks("img_emb.*", "condition_embedder.image_embedder.*", called="an embedding of pictures, as Wan 2.1")


def _wan(channels: int, width: int, *others: Rule) -> Rule:
    """Biases tell the width also where the matrices are packed."""
    return both(
        axis(_PATCHES, 1, channels, called="input channels"),
        axis(("patch_embedding.bias", _PATCHES), 0, width, called="width"),
        *others,
    )


_WAN = (
    _main(
        "wan",
        "Wan",
        _TEXT,
        _BLOCKS,
        lacks(*_EXTENSIONS, called="layers of an extension of Wan"),
        variant=Likely(
            (
                ("i2v_a14b", _wan(36, 5120, _NO_PICTURES)),
                ("ti2v_5b", _wan(48, 3072)),
            ),
            # Wan 2.1's model of 14 billion weights has the same layers.
            hints=(("t2v_a14b", _wan(16, 5120, unless(named(r"2[-_.]?1(?!\d)")))),),
        ),
    ),
    _main(
        "wan",
        "an extension of Wan (VACE, Animate, S2V, Fun-Control)",
        _TEXT,
        _BLOCKS,
        has(*_EXTENSIONS, called="layers that Wan itself has not"),
    ),
)

# Hunyuan

_TOKENS = has(
    "txt_in.individual_token_refiner.blocks.0.*",
    "context_embedder.token_refiner.refiner_blocks.0.*",
    called="the token refiner of Hunyuan",
)
_FIRST = ("img_in.proj.weight", "x_embedder.proj.weight")


def _first(number: int, called: str) -> Rule:
    """Pictures are embedded by a flat convolution, videos by one along time as well."""
    return rank(_FIRST, number, called=called)


_HUNYUAN = (
    _main("hunyuan-video", "Hunyuan-Video", _TOKENS, _first(5, "a convolution along time as well")),
    _main("hunyuan-image", "Hunyuan-Image", _TOKENS, _first(4, "a convolution over pictures")),
)

# Cosmos and its descendants

_COSMOS_2 = has("blocks.0.adaln_modulation_self_attn.1.weight", called="the modulated blocks of Cosmos")
_ADAPTER = "llm_adapter.*"
_COSMOS = (
    _main("cosmos", "Cosmos Predict 2", _COSMOS_2, lacks(_ADAPTER, called="the text adapter of Anima")),
    _main("anima", "Anima", _COSMOS_2, has(_ADAPTER, called="the text adapter of Anima")),
    _main(
        "cosmos",
        "Cosmos 1",
        has("blocks.block0.blocks.0.block.attn.to_q.0.weight", called="the nested blocks of Cosmos 1"),
    ),
    _main(
        "cosmos",
        "Cosmos",
        has("transformer_blocks.0.norm1.linear_1.*", called="the modulated blocks of Cosmos"),
        has("time_embed.t_embedder.linear_1.*", called="its embedding of the time"),
    ),
)

# Others

_OTHERS = (
    _main(
        "ltx-video",
        "LTX-Video",
        has("patchify_proj.weight", "patchify_proj.bias", called="a projection of patches"),
        has("transformer_blocks.0.scale_shift_table", called="modulated blocks"),
    ),
    _main(
        "ltx-video",
        "LTX-Video",
        has("transformer_blocks.0.scale_shift_table", called="modulated blocks"),
        has("time_embed.emb.timestep_embedder.linear_1.*", called="one modulation for all blocks"),
        axis("proj_in.bias", 0, 2048, 4096, called="width"),
    ),
    _main(
        "mochi",
        "Mochi 1",
        has("blocks.0.attn.qkv_x.weight", "pos_frequencies", called="the blocks or positions of Mochi"),
        has("blocks.0.attn.qkv_y.weight", "transformer_blocks.0.attn1.add_q_proj.*", called="joint attention"),
    ),
    _main(
        "cogvideox",
        "CogVideoX",
        has("patch_embed.text_proj.*", called="a projection of the text beside the patches"),
        has("time_embedding.linear_1.*", called="an embedding of the time alone"),
        prediction_type=always("v_prediction"),
    ),
)

FAMILIES: tuple[Family, ...] = (*_WAN, *_HUNYUAN, *_COSMOS, *_OTHERS)
