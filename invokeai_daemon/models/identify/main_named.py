"""Main models that are known by name, so that their owners learn what they have, and that cannot be used yet.

A row per family and layout: that of its authors (and of ComfyUI), and that of diffusers. The names that tell them
apart were taken from the architectures; each is one that no other family has.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.main_parts import known_by_name as _main
from invokeai_daemon.models.identify.rules import Likely, a_word, named
from invokeai_daemon.models.identify.table import (
    Choice,
    Family,
    Rule,
    always,
    axis,
    both,
    either,
    has,
    lacks,
    unless,
)

# Relatives of FLUX


def _text(*widths: int) -> Rule:
    return axis(("txt_in.weight", "context_embedder.weight"), 1, *widths, called="text width")


_KLEIN_4B, _KLEIN_9B, _FLUX_2_DEV = _text(7680), _text(12288), _text(15360)
_BASE_BY_NAME = named(a_word("base"))
_FLUX_2_VARIANT = Likely(
    (("dev", _FLUX_2_DEV),),
    None,
    (
        ("klein_4b_base", both(_KLEIN_4B, _BASE_BY_NAME)),
        ("klein_9b_base", both(_KLEIN_9B, _BASE_BY_NAME)),
        ("klein_4b", _KLEIN_4B),
        ("klein_9b", _KLEIN_9B),
    ),
)
_FLUX_FAMILY = (
    _main(
        "flux2",
        "FLUX.2",
        has("double_stream_modulation_img.lin*", called="the shared modulation of FLUX.2"),
        variant=_FLUX_2_VARIANT,
    ),
    _main(
        "flux3",
        "FLUX.3",
        has("early_stream_modulations.*", called="the modulation of early streams of FLUX.3"),
    ),
    _main(
        "chroma",
        "Chroma",
        has("distilled_guidance_layer.*", called="the guidance layer of Chroma"),
        has("double_blocks.0.*", "transformer_blocks.0.*", called="the double blocks of FLUX"),
    ),
    _main(
        "longcat-image",
        "LongCat-Image",
        has("single_transformer_blocks.0.proj_mlp.*", called="the single blocks of FLUX"),
        has("time_embed.timestep_embedder.linear_1.*", called="an embedding of the time alone"),
        axis("context_embedder.weight", 1, 3584, called="text width"),
    ),
    _main(
        "longcat-image",
        "LongCat-Image",
        axis("txt_in.weight", 1, 3584, called="text width"),
        has("single_blocks.0.linear1.*", called="the single blocks of FLUX"),
        lacks("vector_in.*", called="an embedding of pooled texts"),
    ),
    _main(
        "bria",
        "Bria",
        has("single_transformer_blocks.0.proj_mlp.*", called="the single blocks of FLUX"),
        has("time_embed.timestep_embedder.linear_1.*", called="an embedding of the time alone"),
        axis("context_embedder.weight", 1, 4096, called="text width"),
    ),
    _main(
        "ovis-image",
        "Ovis-Image",
        has("context_embedder_norm.weight", "txt_norm.weight", called="a norm of the text"),
        has("single_transformer_blocks.0.proj_mlp.*", "single_blocks.0.linear1.*", called="the single blocks of FLUX"),
    ),
)

# Lumina and Z-Image

_REFINERS = has("noise_refiner.0.*", called="layers that refine the noise")
_NO_REFERENCE = lacks("ref_image_refiner.*", "ref_image_patch_embedder.*", called="layers for reference pictures")
_Z_VARIANT = Likely((), "turbo", (("zbase", named(a_word("base"), "zbase")),))
_LUMINA_FAMILY = (
    _main(
        "z-image",
        "Z-Image",
        has("cap_pad_token", called="the padding of captions of Z-Image"),
        _REFINERS,
        variant=_Z_VARIANT,
    ),
    _main(
        "lumina2",
        "Lumina 2",
        has("cap_embedder.0.weight", "time_caption_embed.caption_embedder.0.weight", called="an embedding of captions"),
        _REFINERS,
        lacks("cap_pad_token", called="the padding of captions of Z-Image"),
        _NO_REFERENCE,
    ),
    _main(
        "omnigen2",
        "OmniGen 2",
        has("ref_image_refiner.0.*", called="layers that refine reference pictures"),
        _REFINERS,
    ),
    _main(
        "lumina",
        "Lumina Next",
        has("layers.0.attention.gate", "layers.0.gate", called="gated attention to captions"),
        has("cap_embedder.0.weight", "time_caption_embed.caption_embedder.0.weight", called="an embedding of captions"),
        lacks("noise_refiner.*", called="layers that refine the noise"),
    ),
)

# Qwen-Image and other double transformers

_QWEN_VARIANT = Likely(
    (("edit", has("__index_timestep_zero__", called="the marker of Qwen-Image Edit")),),
    "generate",
    (("edit", named(r"(?<![a-z])edit")),),
)
_DOUBLE = (
    _main(
        "qwen-image",
        "Qwen-Image",
        has("txt_norm.weight", called="a norm of the text"),
        has("transformer_blocks.0.img_mod.1.*", called="the modulated blocks of Qwen-Image"),
        has("transformer_blocks.0.txt_mod.1.*", called="the modulated text blocks of Qwen-Image"),
        variant=_QWEN_VARIANT,
    ),
    _main(
        "qwen-image",
        "Qwen-Image 2.1",
        has("txt_in.text_norm.weight", called="the text norm of Qwen-Image 2.1"),
        has("transformer_blocks.0.img_mlp.*", called="the blocks of Qwen-Image"),
    ),
    _main(
        "krea-2",
        "Krea 2",
        has("txtfusion.projector.weight", "text_fusion.projector.weight", called="the fusion of texts of Krea 2"),
        variant=Likely(
            (), "krea2_turbo", (("krea2_base", both(named(a_word("raw"), a_word("base")), unless(named("turbo")))),)
        ),
    ),
    _main(
        "auraflow",
        "AuraFlow",
        has(
            "double_layers.0.attn.w1q.weight",
            "joint_transformer_blocks.0.attn.add_q_proj.weight",
            called="the joint layers of AuraFlow",
        ),
        has("register_tokens", called="the register tokens of AuraFlow"),
    ),
    _main(
        "hidream",
        "HiDream-I1",
        has("double_stream_blocks.0.block.*", called="the double blocks of HiDream"),
        has("caption_projection.0.linear.*", called="projections of several captions"),
    ),
    _main(
        "cogview4",
        "CogView 4",
        has("patch_embed.text_proj.*", called="a projection of the text beside the patches"),
        has("time_condition_embed.condition_embedder.linear_1.*", called="an embedding of sizes"),
        axis("patch_embed.proj.bias", 0, 4096, called="hidden size"),
    ),
    _main(
        "cogview3",
        "CogView 3 Plus",
        has("patch_embed.text_proj.*", called="a projection of the text beside the patches"),
        has("time_condition_embed.condition_embedder.linear_1.*", called="an embedding of sizes"),
        axis("patch_embed.proj.bias", 0, 2560, called="hidden size"),
        prediction_type=always("v_prediction"),
    ),
    _main(
        "glm-image",
        "GLM-Image",
        has("glyph_projector.*", called="a projection of glyphs"),
        has("prior_token_embedding.weight", called="an embedding of prior tokens"),
    ),
    _main(
        "ideogram-4",
        "Ideogram 4",
        has("llm_cond_proj.*", called="a projection of a language model's states"),
        has("embed_image_indicator.weight", called="an indicator of pictures"),
    ),
    _main(
        "ernie-image",
        "ERNIE-Image",
        has("layers.0.adaLN_sa_ln.weight", called="the attention norms of ERNIE-Image"),
        has("text_proj.weight", called="a projection of the text"),
    ),
    _main(
        "prx",
        "PRX",
        has("blocks.0.attention.txt_kv_proj.*", "blocks.0.txt_kv_proj.*", called="text keys in every block"),
        has("txt_in.weight", called="an embedding of the text"),
    ),
    _main(
        "nucleus-image",
        "Nucleus-Image",
        has("transformer_blocks.0.encoder_proj.*", called="a projection of the text in every block"),
        has("txt_norm.weight", called="a norm of the text"),
    ),
    _main(
        "kandinsky",
        "Kandinsky 5",
        has("visual_transformer_blocks.0.*", called="visual blocks"),
        has("text_transformer_blocks.0.*", called="text blocks"),
    ),
    _main(
        "kandinsky",
        "Kandinsky 3",
        has("down_blocks.*.resnets_in.*", called="the blocks of Kandinsky 3"),
        has("add_time_condition.*", called="a condition on time"),
        prediction_type=always("epsilon"),
    ),
)

# Single transformers with cross-attention

_CROSS = has("blocks.0.cross_attn.q_linear.*", called="cross-attention to the text")
_SANA_NORM = has("attention_y_norm.weight", "caption_norm.weight", called="the norm of captions of Sana")
_PIXART_SIZE = axis(("pos_embed.proj.bias", "x_embedder.proj.bias"), 0, 1152, called="hidden size")
_HUNYUAN_DIT = has("text_embedding_padding", called="the padding of texts of Hunyuan-DiT")
_SINGLE = (
    _main(
        "sana", "Sana", _SANA_NORM, either(_CROSS, has("transformer_blocks.0.ff.conv_depth.*", called="a convolution"))
    ),
    _main(
        "pixart",
        "PixArt",
        _CROSS,
        has("t_block.1.*", called="one modulation for all blocks"),
        _PIXART_SIZE,
        lacks("attention_y_norm.weight", called="the norm of captions of Sana"),
        prediction_type=always("epsilon"),
    ),
    _main(
        "pixart",
        "PixArt",
        has("adaln_single.emb.timestep_embedder.linear_1.*", called="one modulation for all blocks"),
        has("caption_projection.linear_1.*", called="a projection of captions"),
        _PIXART_SIZE,
        lacks("patchify_proj.*", called="a projection of patches"),
        prediction_type=always("epsilon"),
    ),
    _main(
        "hunyuan-dit",
        "Hunyuan-DiT",
        _HUNYUAN_DIT,
        has("blocks.0.*", called="blocks"),
        prediction_type=Choice((), "v_prediction"),
    ),
    _main(
        "stable-cascade",
        "Stable Cascade",
        has("clip_txt_mapper.weight", called="the mapping of texts of Stable Cascade's stage C"),
        prediction_type=always("epsilon"),
    ),
    _main(
        "stable-cascade",
        "Stable Cascade",
        has("effnet_mapper.0.weight", called="the mapping of pictures of Stable Cascade's stage B"),
        has("down_blocks.1.0.channelwise.0.weight", called="its blocks"),
        prediction_type=always("epsilon"),
    ),
)

FAMILIES: tuple[Family, ...] = (*_FLUX_FAMILY, *_LUMINA_FAMILY, *_DOUBLE, *_SINGLE)
