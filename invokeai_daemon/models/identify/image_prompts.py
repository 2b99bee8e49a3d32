"""Image prompts: IP-Adapters and what gives a model a face or a style from a picture.

A part of the room `control`. The kind is told by the projection of the picture (`image_proj`), the base by the width of
the context that its keys take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from invokeai_daemon.models.identify.rules import size
from invokeai_daemon.models.identify.table import Answer, Choice, Family, Rule, axis, has, lacks, nothing_else
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import Need

_TO_K = "ip_adapter.1.to_k_ip.weight"
_BASE = Choice(
    tuple(
        (base, axis(_TO_K, -1, width, called="context width"))
        for base, width in (("sd-1", 768), ("sd-2", 1024), ("sdxl", 2048))
    )
)
_KEYS = has(_TO_K, called="the keys of an IP-Adapter")
#: Of a UNet only every second attention takes pictures; of a transformer each does.
_NO_TRANSFORMER = lacks("ip_adapter.0.to_k_ip.weight", called="the keys of an adapter of a transformer")
_NO_PULID = lacks("image_proj.id_embedding_mapping.*", called="the encoder of PuLID")
_NO_FACE = lacks("ip_adapter.0.to_q_lora.down.weight", called="the LoRA of a FaceID adapter")
_INSIGHT = (
    "it knows people by the face recogniser of InsightFace, which this program has not. "
    "Use the IP-Adapter named plus-face instead"
)

#: Width of what an encoder gives, as a vector or as tokens -> the encoder.
_ENCODERS = {
    1024: "CLIP ViT-H (image_encoder of h94/IP-Adapter, models/image_encoder)",
    1280: "CLIP ViT-bigG (image_encoder of h94/IP-Adapter, sdxl_models/image_encoder)",
}
_TOKENS = {
    1024: "CLIP ViT-L (336 pixels)",
    1280: "CLIP ViT-H (image_encoder of h94/IP-Adapter, models/image_encoder)",
    1664: "CLIP ViT-bigG (image_encoder of h94/IP-Adapter, sdxl_models/image_encoder)",
}


def _encoder(pattern: str, names: dict[int, str]) -> Callable[[Weights], Iterable[Need]]:
    """The CLIP vision encoder that it looks through, by the width of what it takes."""

    def needs(weights: Weights) -> Iterable[Need]:
        width = size(weights, pattern, -1) or 0
        encoder = names.get(width, f"a CLIP vision encoder of width {width}")
        yield Need("clip_vision", "any", None, f"it looks at pictures through {encoder}: drop that encoder")

    return needs


def _adapter(
    name: str, *marks: Rule, unusable: str = "", needs: Callable[[Weights], Iterable[Need]] = nothing_else
) -> Family:
    marks = (_KEYS, _NO_TRANSFORMER, _NO_PULID, *marks)
    return Family("ip_adapter", _BASE, name, marks, unusable=unusable, needs=needs, before=("lora",))


_PLUS = has("image_proj.latents", called="the queries of a plus adapter")
_KOLORS = axis("image_proj.layers.0.0.to_out.weight", 0, 2048, called="projection width")


def _narrow(weights: Weights) -> Answer:
    """It is not that of Kolors. (A rule.)"""
    answer = _KOLORS(weights)
    return Answer(not answer.holds, answer.says if answer.holds else "")


FAMILIES: tuple[Family, ...] = (
    _adapter(
        "an IP-Adapter",
        has("image_proj.proj.weight", called="a projection of one vector"),
        _NO_FACE,
        needs=_encoder("image_proj.proj.weight", _ENCODERS),
    ),
    _adapter(
        "an IP-Adapter of the kind plus",
        _PLUS,
        _NO_FACE,
        axis("image_proj.proj_in.weight", -1, 768, 1024, 1280, 1664, called="token width"),
        _narrow,
        needs=_encoder("image_proj.proj_in.weight", _TOKENS),
    ),
    Family(
        "ip_adapter",
        "kolors",
        "an IP-Adapter of Kolors",
        (_KEYS, _PLUS, _KOLORS),
        unusable="Kolors is not supported",
    ),
    _adapter(
        "an IP-Adapter of the kind full",
        has("image_proj.proj.3.weight", called="a projection of two layers"),
        _NO_FACE,
        needs=_encoder("image_proj.proj.0.weight", _TOKENS),
    ),
    _adapter(
        "an IP-Adapter of the kind FaceID",
        has("image_proj.proj.0.weight", called="a projection of two layers"),
        has("image_proj.proj.2.weight", called="its second layer"),
        lacks("image_proj.proj.3.weight", "image_proj.perceiver_resampler.*", called="what other kinds have"),
        unusable=_INSIGHT,
    ),
    _adapter(
        "an IP-Adapter of the kind FaceID-plus",
        has("image_proj.perceiver_resampler.*", called="a resampler for a face"),
        unusable=_INSIGHT,
    ),
    _adapter(
        "an InstantID adapter",
        _PLUS,
        axis("image_proj.proj_in.weight", -1, 512, called="width of what describes a face"),
        unusable=_INSIGHT,
    ),
    Family(
        "ip_adapter",
        "flux",
        "a FLUX IP-Adapter by XLabs",
        (
            has("double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight", called="the keys of an IP-Adapter"),
            has("ip_adapter_proj_model.proj.weight", called="a projection of one vector"),
        ),
        needs=_encoder("ip_adapter_proj_model.proj.weight", {768: "CLIP ViT-L (openai/clip-vit-large-patch14)"}),
        before=("main", "lora"),
    ),
    Family(
        "ip_adapter",
        Choice(
            (
                ("flux", axis("ip_adapter.0.to_k_ip.weight", 0, 3072, called="model width")),
                ("sd-3", axis("ip_adapter.0.to_k_ip.weight", 0, 1536, 2432, called="model width")),
            )
        ),
        "an IP-Adapter of a transformer by InstantX",
        (
            has("ip_adapter.0.to_k_ip.weight", called="the keys of an IP-Adapter"),
            has("image_proj.*", called="a projection"),
            axis("ip_adapter.0.to_k_ip.weight", 0, 1536, 2432, 3072, called="model width"),
        ),
        unusable="of IP-Adapters for transformers this program knows only those by XLabs for FLUX",
        before=("lora",),
    ),
    Family(
        "other",
        Choice(
            (
                ("sdxl", has("id_adapter_attn_layers.*", called="the attention layers of SDXL's PuLID")),
                ("flux", has("pulid_ca.*", called="the attention layers of FLUX's PuLID")),
                ("sdxl", axis(_TO_K, -1, 2048, called="context width")),
            )
        ),
        "PuLID, which gives a face",
        (
            has(
                "id_adapter.*",
                "pulid_encoder.*",
                "pulid_ca.*",
                "image_proj.id_embedding_mapping.*",
                called="the encoder of PuLID",
            ),
        ),
        unusable=_INSIGHT,
        before=("lora", "clip_vision"),
    ),
    Family(
        "other",
        "sdxl",
        "PhotoMaker, which gives a face",
        (has("id_encoder.visual_projection*", "id_encoder.fuse_module.*", called="the encoder of PhotoMaker"),),
        unusable="PhotoMaker has an encoder of its own, which this program has not. Use the IP-Adapter plus-face",
        before=("lora", "clip_vision"),
    ),
)
