"""Names: how a tensor of a LoRA is called, taken apart into the layer it belongs to and its place in that layer.

`lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight` is the leaf `down` of a stem; the stem is the module
`encoder_layers_0_mlp_fc1` of the part `te1`. Trainers agree on little: their spellings are the tables here. Used by
`facts`. Only reads names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

#: Last words of a name before ".weight" or ".bias" -> leaf.
WEIGHTED = {
    "lora_down": "down",
    "lora_up": "up",
    "lora_mid": "mid",
    "lora_A": "down",
    "lora_B": "up",
    "lora_magnitude_vector": "magnitude",
    "oft_R": "oft",
    "oft_r": "oft",
    "a1": "glora_a1",
    "a2": "glora_a2",
    "b1": "glora_b1",
    "b2": "glora_b2",
    "bm": "glora_bm",
    "q_layer": "tlora_q",
    "p_layer": "tlora_p",
}

#: Last word of a name -> leaf.
BARE = {
    "alpha": "alpha",
    "lora_A": "down",
    "lora_B": "up",
    "lora_magnitude_vector": "magnitude",
    "dora_scale": "magnitude",
    "hada_w1_a": "hada_w1_a",
    "hada_w1_b": "hada_w1_b",
    "hada_w2_a": "hada_w2_a",
    "hada_w2_b": "hada_w2_b",
    "hada_t1": "hada_t1",
    "hada_t2": "hada_t2",
    "lokr_w1": "lokr_w1",
    "lokr_w1_a": "lokr_w1_a",
    "lokr_w1_b": "lokr_w1_b",
    "lokr_w2": "lokr_w2",
    "lokr_w2_a": "lokr_w2_a",
    "lokr_w2_b": "lokr_w2_b",
    "lokr_t1": "lokr_t1",
    "lokr_t2": "lokr_t2",
    "diff": "diff",
    "diff_b": "diff_b",
    "set_weight": "diff",
    "reshape_weight": "reshape",
    "on_input": "on_input",
    "ia3_l": "ia3",
    "w_norm": "w_norm",
    "b_norm": "b_norm",
    "oft_blocks": "oft",
    "oft_diag": "oft",
    "oft_R": "oft",
    "oft_r": "oft",
    "boft_R": "boft",
    "boft_s": "boft",
    "vera_lambda_b": "vera",
    "vera_lambda_d": "vera",
    "lambda_layer": "tlora",
    "rescale": "rescale",
    "scalar": "scalar",
    "bias_indices": "sparse",
    "bias_values": "sparse",
    "bias_size": "sparse",
}

#: Leaves that change a layer; a file without any of them is no LoRA. `glora_*` counts only where all four are there.
TELLING = frozenset(
    {"down", "up", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff", "diff_b", "on_input", "ia3", "w_norm", "oft", "boft"}
    | {"glora_b2", "tlora", "vera"}
)

#: Beginnings of names -> the part of the pipeline. The longest that fits is taken.
PREFIXES = {
    "lora_unet_": "unet",
    "lora_transformer_": "unet",
    "lora_prior_unet_": "unet",
    "lora_prior_te_": "te",
    "lora_te_": "te",
    "lora_te1_": "te1",
    "lora_te2_": "te2",
    "lora_te3_": "te3",
    "lora_te4_": "te4",
    "lycoris_": "unet",
    "unet.": "unet",
    "transformer.": "unet",
    "transformer_2.": "unet",
    "conditional_transformer.": "unet",
    "text_conditioner.": "unet",
    "prior.": "unet",
    "diffusion_model.": "unet",
    "model.diffusion_model.": "unet",
    "unet.base_model.model.": "unet",
    "base_model.model.": "unet",
    "base_model.model.unet.": "unet",
    "base_model.model.transformer.": "unet",
    "base_model.model.diffusion_model.": "unet",
    "base_model.model.text_encoder.": "text_encoder",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
    "text_encoders.clip_l.transformer.": "clip_l",
    "text_encoders.clip_g.transformer.": "clip_g",
    "text_encoders.t5xxl.transformer.": "t5",
    "text_encoders.": "text_encoder",
    "clip_l.": "clip_l",
    "clip_g.": "clip_g",
    "t5.": "t5",
    "t5xxl.": "t5",
}

#: Parameters that PEFT may put an adapter's name behind.
_NAMED = frozenset(word for word in BARE if word.startswith(("lora_", "hada_", "lokr_", "ia3_", "oft_", "boft_")))
_LONGEST_FIRST = tuple(sorted(PREFIXES, key=len, reverse=True))

#: What a base is called that the prefix of a text encoder's module may or may not have.
_ROOTS = (
    "text_model_",
    "transformer_text_model_",
    "transformer_",
    "model_language_model_",
    "language_model_",
    "model_",
)

#: Names that are remembered: whoever has many LoRAs has the same names again and again.
MEMORY = 1 << 15

_XLABS = re.compile(r"_lora(\d?)$")


class Spelling(NamedTuple):
    """A name, taken apart."""

    #: The layer, as it is written.
    stem: str
    #: What the tensor is in its layer.
    leaf: str
    #: What was between: the name of a PEFT adapter ("default"), or "".
    adapter: str = ""


@lru_cache(MEMORY)
def taken_apart(name: str) -> Spelling | None:
    """The layer and the leaf of a tensor; None for a tensor that is part of no LoRA layer."""
    head, _, last = name.rpartition(".")
    leaf = BARE.get(last)
    if leaf:
        return Spelling(head, leaf)
    stem, _, word = head.rpartition(".")
    if last == "weight" or last == "bias":
        leaf = WEIGHTED.get(word)
        if leaf:
            return Spelling(stem, leaf if last == "weight" else "bias")
        if word == "down" or word == "up":
            return _old_diffusers(stem, word if last == "weight" else "bias")
        stem, _, before = stem.rpartition(".")
        leaf = WEIGHTED.get(before)
        # PEFT writes the adapter's name between: lora_A.default.weight.
        return Spelling(stem, leaf if last == "weight" else "bias", word) if leaf and leaf[:5] != "glora" else None
    # … and after what is a parameter of its own: lora_magnitude_vector.default, hada_w1_a.default.
    return Spelling(stem, BARE[word], last) if word in _NAMED else None


def _old_diffusers(stem: str, leaf: str) -> Spelling | None:
    """`…to_k_lora.down.weight`, `…q_proj.lora_linear_layer.down.weight`, `…to_q.lora.down.weight`."""
    head, _, word = stem.rpartition(".")
    if word == "lora" or word == "lora_linear_layer":
        return Spelling(head, leaf)
    return Spelling(stem, leaf) if _XLABS.search(word) else None


class Place(NamedTuple):
    """Where a layer lies."""

    #: "unet" for whatever denoises; te, te1, te2, text_encoder, text_encoder_2, clip_l, … for text encoders.
    part: str
    #: What was before the module's name.
    prefix: str
    #: The module, its dots written as underscores as kohya's trainers do.
    module: str


@lru_cache(MEMORY)
def placed(stem: str) -> Place:
    """Where a layer belongs; without a known beginning the stem is the module of what denoises."""
    prefix = next((prefix for prefix in _LONGEST_FIRST if stem.startswith(prefix)), "")
    part = PREFIXES.get(prefix, "unet")
    module = stem[len(prefix) :]
    if "_lora" in module:
        module = _XLABS.sub(r"\1", module.replace(".processor.", "."))
    module = module.replace(".", "_")
    if part != "unet":
        root = next((root for root in _ROOTS if module.startswith(root)), "")
        module = module[len(root) :]
    return Place(part, prefix, module)
