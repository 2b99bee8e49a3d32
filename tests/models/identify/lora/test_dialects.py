"""Dialects, kinds and subsets that need a word of their own, and what must stay open."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.identify.lora import facts_of
from invokeai_daemon.models.identity import Verdict
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.identify.lora import trainers as by
from tests.models.identify.lora.architectures import denoiser, encoder
from tests.models.identify.lora.trainers import Shapes, header_of

SD = by.sgm((False, True, True, True))
XL = by.sgm((True, True, False))


def judged(shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "F16") -> Verdict:
    return judge(header_of(shapes, metadata, dtype))


def attention(name: str) -> list[by.Module]:
    return [(module, shape) for module, shape in by.linear(denoiser(name)) if "attn" in module]


def text(name: str) -> list[by.Module]:
    return by.only(by.matrices(encoder(name)), "self_attn", "mlp", "SelfAttention", "DenseReluDense")


def pair(stem: str, columns: int, rows: int, down: str = "lora_down.weight", up: str = "lora_up.weight") -> Shapes:
    return {f"{stem}.{down}": (8, columns), f"{stem}.{up}": (rows, 8)}


# FLUX


def flux_original(prefix: str = "", qkv: str = "qkv") -> Shapes:
    """FLUX under the names of Black Forest Labs."""
    made: Shapes = {}
    for number in range(19):
        for stream in ("img", "txt"):
            block = f"{prefix}double_blocks.{number}.{stream}"
            made |= pair(f"{block}_attn.{qkv}", 3072, 9216, "lora_A.weight", "lora_B.weight")
            made |= pair(f"{block}_attn.proj", 3072, 3072, "lora_A.weight", "lora_B.weight")
            made |= pair(f"{block}_mlp.0", 3072, 12288, "lora_A.weight", "lora_B.weight")
            made |= pair(f"{block}_mlp.2", 12288, 3072, "lora_A.weight", "lora_B.weight")
            made |= pair(f"{block}_mod.lin", 3072, 18432, "lora_A.weight", "lora_B.weight")
    for number in range(38):
        block = f"{prefix}single_blocks.{number}"
        made |= pair(f"{block}.linear1", 3072, 21504, "lora_A.weight", "lora_B.weight")
        made |= pair(f"{block}.linear2", 15360, 3072, "lora_A.weight", "lora_B.weight")
        made |= pair(f"{block}.modulation.lin", 3072, 9216, "lora_A.weight", "lora_B.weight")
    return made


def control() -> Shapes:
    """FLUX.1 Canny and Depth as LoRA: biases, the scales of norms, and an input of 128 channels."""
    made = flux_original()
    biased = [name for name in made if "lora_B" in name]
    made |= {name.replace("weight", "bias"): made[name][:1] for name in biased}
    for number in range(19):
        for stream in ("img", "txt"):
            for norm in ("query_norm", "key_norm"):
                made[f"double_blocks.{number}.{stream}_attn.norm.{norm}.scale"] = (128,)
    made |= pair("img_in", 128, 3072, "lora_A.weight", "lora_B.weight") | {"img_in.lora_B.bias": (3072,)}
    return made


def xlabs() -> Shapes:
    made: Shapes = {}
    for number in range(19):
        for stream in (1, 2):
            block = f"double_blocks.{number}.processor"
            made |= pair(f"{block}.qkv_lora{stream}", 3072, 9216, "down.weight", "up.weight")
            made |= pair(f"{block}.proj_lora{stream}", 3072, 3072, "down.weight", "up.weight")
    return made


def split_qkv() -> Shapes:
    """OneTrainer writes one change for each of query, key and value."""
    made: Shapes = {}
    for number in range(19):
        for part in range(3):
            made |= pair(f"transformer.double_blocks.{number}.img_attn.qkv.{part}", 3072, 3072)
    for number in range(38):
        for part in range(3):
            made |= pair(f"transformer.single_blocks.{number}.linear1.{part}", 3072, 3072)
        made |= pair(f"transformer.single_blocks.{number}.linear1.3", 3072, 12288)
        made |= pair(f"transformer.single_blocks.{number}.modulation.lin", 3072, 9216)
    return made


OMI = {"modelspec.sai_model_spec": "1.0.0", "ot_branch": "omi_format", "modelspec.architecture": "Flux.1-dev/lora"}
AI_TOOLKIT = {"software": '{"name": "ai-toolkit", "version": "0.1.0"}'}


@pytest.mark.parametrize(
    ("shapes", "metadata", "expected"),
    [
        (flux_original("diffusion_model."), {}, ("lora", "flux", "lycoris", "bfl_peft")),
        (flux_original("base_model.model."), {}, ("lora", "flux", "lycoris", "bfl_peft")),
        (control(), {}, ("control_lora", "flux", "lycoris", "control")),
        (xlabs(), {}, ("lora", "flux", "lycoris", "xlabs")),
        (split_qkv(), {}, ("lora", "flux", "lycoris", "onetrainer_bfl")),
        (flux_original("diffusion_model."), AI_TOOLKIT, ("lora", "flux", "lycoris", "aitoolkit")),
        (flux_original("transformer."), OMI, ("lora", "flux", "omi", "omi")),
    ],
    ids=["bfl", "kontext trainer", "control", "xlabs", "onetrainer bfl", "ai-toolkit", "omi"],
)
def test_the_dialects_of_flux_are_told_apart(
    shapes: Shapes, metadata: Mapping[str, str], expected: tuple[str, ...]
) -> None:
    identity = judged(shapes, metadata).identity
    assert (identity.type, identity.base, identity.format, identity.dialect) == expected
    assert not identity.assumed


def test_a_control_lora_is_one_under_the_names_of_diffusers_too() -> None:
    shapes = by.written(attention("flux"), by.peft, "transformer.")
    shapes |= pair("transformer.x_embedder", 128, 3072, "lora_A.weight", "lora_B.weight")
    assert judged(shapes).identity.type == "control_lora"


def test_flux_with_its_text_encoders_and_dora_as_onetrainer_writes_it() -> None:
    shapes = by.kohya(by.linear(denoiser("flux")), by.dora, "lora_transformer_")
    shapes |= by.kohya(text("clip_l"), by.dora, "lora_te1_") | by.kohya(text("t5"), by.dora, "lora_te2_")
    identity = judged(shapes).identity
    assert (identity.base, identity.dialect, identity.assumed) == ("flux", "onetrainer", ())
    assert any("DoRA" in note for note in identity.evidence)


def test_a_lora_for_flux_fill_or_kontext_is_one_for_flux() -> None:
    shapes = flux_original("diffusion_model.") | {"diffusion_model.img_in.lora_A.weight": (8, 384)}
    assert judged(shapes | {"diffusion_model.img_in.lora_B.weight": (3072, 8)}).identity.base == "flux"


# Subsets


@pytest.mark.parametrize(
    ("words", "base"),
    [
        (("down_blocks.1.attentions.0.transformer_blocks.1",), "sdxl"),
        (("up_blocks.1.attentions",), "sdxl"),
        (("down_blocks.1.attentions", "up_blocks.1.attentions"), "sdxl"),
        (("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",), "sdxl"),
        (("mid_block",), "sdxl"),
        (("add_embedding",), "sdxl"),
    ],
)
def test_few_layers_of_sdxl_are_enough(words: tuple[str, ...], base: str) -> None:
    modules = [(name, shape) for name, shape in by.linear(denoiser("sdxl")) if any(word in name for word in words)]
    assert judged(by.kohya(modules, by.lora, "lora_unet_")).identity.base == base
    assert judged(by.kohya(modules, by.lora, "lora_unet_", XL)).identity.base == base


def test_only_the_norms_of_sdxl_are_enough() -> None:
    identity = judged(by.kohya(by.norms(denoiser("sdxl")), by.norm, "lora_unet_")).identity
    assert (identity.base, identity.dialect) == ("sdxl", "kohya")


def test_self_attention_alone_fits_sd_1_and_sd_2_and_is_left_open() -> None:
    shapes = by.kohya(by.only(by.linear(denoiser("sd-1")), "attn1"), by.lora, "lora_unet_")
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.base) == ("unusable", "unknown")
    assert "its base may be sd-1 or sd-2" in verdict.identity.evidence
    assert 'base = "sd-1" (or sd-2)' in verdict.reason and "sidecar" in verdict.reason


@pytest.mark.parametrize(
    ("metadata", "base"),
    [
        ({"ss_v2": "True"}, "sd-2"),
        ({"ss_v2": "False", "ss_base_model_version": "sd_v1"}, "sd-1"),
        ({"ss_v2": "False"}, "sd-1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora", "ss_base_model_version": "sd_v2"}, "sd-2"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd-1"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd-2"),
    ],
)
def test_metadata_decide_what_shapes_leave_open(metadata: Mapping[str, str], base: str) -> None:
    shapes = by.kohya(by.only(by.linear(denoiser("sd-1")), "attn1"), by.lora, "lora_unet_")
    verdict = judged(shapes, metadata)
    assert (verdict.state, verdict.identity.base, verdict.identity.assumed) == ("ok", base, ())
    assert any("metadata" in note for note in verdict.identity.evidence)


def test_the_name_of_the_model_it_was_trained_on_only_suggests() -> None:
    shapes = by.kohya(by.only(by.linear(denoiser("sd-1")), "attn1"), by.lora, "lora_unet_")
    identity = judged(shapes, {"ss_sd_model_name": "v1-5-pruned-emaonly.safetensors"}).identity
    assert (identity.base, identity.assumed) == ("sd-1", ("base",))


def test_shapes_win_over_metadata_and_the_contradiction_is_told() -> None:
    identity = judged(by.kohya(attention("sdxl"), by.lora, "lora_unet_"), {"ss_base_model_version": "sd_v1"}).identity
    assert identity.base == "sdxl"
    assert any("sd_v1, but its layers are those of SDXL" in note for note in identity.evidence)


def test_kolors_has_the_layers_of_sdxl_and_only_metadata_tell_it() -> None:
    identity = judged(
        by.kohya(attention("sdxl"), by.lora, "lora_unet_"), {"modelspec.architecture": "kolors/lora"}
    ).identity
    assert (identity.base, identity.assumed) == ("kolors", ())


def test_longcat_has_the_layers_of_flux_and_only_metadata_tell_it() -> None:
    shapes = by.written(attention("flux"), by.peft, "transformer.")
    assert judged(shapes).identity.base == "flux"
    assert judged(shapes, {"base_model": "meituan-longcat/LongCat-Image"}).identity.base == "longcat-image"


def test_self_attention_of_cogview4_is_not_taken_for_that_of_a_video_model() -> None:
    identity = judged(by.written(attention("cogview4"), by.peft, "transformer.")).identity
    assert identity.base in ("cogview4", "unknown")
    assert identity.base == "cogview4" or "cogview4" in identity.evidence[-1]


def test_a_sidecar_or_the_folder_says_what_the_file_leaves_open() -> None:
    shapes = by.kohya(by.only(by.linear(denoiser("sd-1")), "attn1"), by.lora, "lora_unet_")
    verdict = judge(header_of(shapes), Sidecar(base="sd-2"))
    assert (verdict.state, verdict.identity.base) == ("ok", "sd-2")
    assert judge(header_of(shapes), hint="sd-1/lora").identity.base == "sd-1"
    assert judge(header_of(shapes), hint="sdxl/lora").identity.base == "unknown"


# Text encoders alone


def test_clip_l_under_te1_fits_several_bases_and_is_left_open() -> None:
    verdict = judged(by.kohya(text("clip_l"), by.lora, "lora_te1_"))
    assert (verdict.state, verdict.identity.base) == ("unusable", "unknown")
    assert "its base may be sdxl or sd-3 or flux or hidream" in verdict.identity.evidence


def test_both_encoders_of_sdxl_alone_are_most_likely_for_sdxl() -> None:
    shapes = by.kohya(text("clip_l"), by.lora, "lora_te1_") | by.kohya(text("clip_g"), by.lora, "lora_te2_")
    identity = judged(shapes).identity
    assert (identity.base, identity.assumed) == ("sdxl", ("base",))


def test_diffusers_writes_encoders_with_their_own_prefixes() -> None:
    shapes = by.written(
        text("clip_l"),
        lambda shape: by.lora(shape, 4, "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
        "text_encoder.",
    )
    shapes |= by.old_diffusers(attention("sd-1"))
    identity = judged(shapes).identity
    assert (identity.base, identity.dialect, identity.assumed) == ("sd-1", "diffusers", ())
    assert any("text encoder 1" in note for note in identity.evidence)


# Kinds


@pytest.mark.parametrize(
    ("leaves", "kind"), [(by.oft, "OFT"), (by.boft, "BOFT"), (by.glora, "GLoRA")], ids=["oft", "boft", "glora"]
)
def test_kinds_that_cannot_be_applied_are_named_with_their_base(leaves, kind: str) -> None:  # type: ignore[no-untyped-def]
    verdict = judged(by.kohya(attention("sdxl"), leaves, "lora_unet_"))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "lora", "sdxl")
    assert kind in verdict.reason


def test_of_a_mixed_file_it_is_said_what_cannot_be_applied() -> None:
    modules = attention("sd-1")
    shapes = by.kohya(modules[:60], by.lora, "lora_unet_") | by.kohya(modules[60:], by.oft, "lora_unet_")
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.base) == ("ok", "sd-1")
    assert any(f"{len(modules) - 60} OFT layers cannot be applied" in note for note in verdict.identity.evidence)


def test_kinds_and_ranks_are_counted() -> None:
    shapes = by.kohya(attention("sd-1"), lambda shape: by.lora(shape, 32), "lora_unet_")
    shapes |= by.kohya(by.convolutions(denoiser("sd-1")), lambda shape: by.lora(shape, 8), "lora_unet_")
    facts = facts_of(header_of(shapes))
    assert facts is not None
    assert facts.kinds == {"LoRA": 128, "LoCon": len(by.convolutions(denoiser("sd-1")))}
    assert facts.ranks == (8, 32) and facts.parts == {"unet": len(facts.targets)}


def test_factors_of_different_ranks_are_a_damaged_file() -> None:
    shapes = by.kohya(attention("sd-1"), by.lora, "lora_unet_")
    name = next(name for name in shapes if name.endswith("lora_up.weight"))
    shapes[name] = (shapes[name][0], 3)  # and 16 is no multiple of it
    verdict = judged(shapes)
    assert verdict.state == "unusable"
    assert "its factors have ranks 16 and 3" in verdict.reason


def test_factors_of_a_fused_projection_may_have_different_ranks() -> None:
    shapes = flux_original("diffusion_model.")
    shapes["diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight"] = (9216, 24)
    assert judged(shapes).state == "ok"


def test_a_model_with_few_layers_of_a_lora_in_it_is_none() -> None:
    shapes = pair("lora_unet_mid_block_attentions_0_proj_in", 1280, 1280)
    verdict = judged(shapes | {f"quux.{number}.weight": (7, 7) for number in range(9)})
    assert verdict.state == "unknown"
    assert "9 of its 11 tensors belong to no layer of a LoRA" in dict(verdict.nearest)["lora"]


def test_a_layer_that_fits_no_model_leaves_the_base_assumed() -> None:
    shapes = by.kohya(attention("sdxl"), by.lora, "lora_unet_")
    shapes |= pair("lora_unet_mid_block_attentions_0_proj_in", 99, 99)
    identity = judged(shapes).identity
    assert (identity.base, identity.assumed) == ("sdxl", ("base",))
    assert any("but not lora_unet_mid_block_attentions_0_proj_in" in note for note in identity.evidence)


def test_names_of_a_known_model_in_other_sizes_are_told_and_not_used() -> None:
    modules = [(name, tuple(3 * size for size in shape)) for name, shape in attention("qwen-image")]
    modules += [("transformer_blocks.0.img_mod.1", (99, 99))]
    verdict = judged(by.written(modules, by.peft, "transformer."))
    assert (verdict.state, verdict.identity.base, verdict.identity.assumed) == ("unusable", "qwen-image", ("base",))
    assert "layers of its sizes" in verdict.reason


def test_a_lora_for_a_model_that_nobody_knows_is_a_lora_of_open_base() -> None:
    verdict = judged(pair("diffusion_model.quux.0.attn", 77, 88) | pair("diffusion_model.quux.1.attn", 77, 88))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "lora", "unknown")
    assert "quux" in " ".join(verdict.identity.evidence)


# What lies beside


def test_embeddings_that_are_bundled_are_told() -> None:
    shapes = by.kohya(attention("sdxl"), by.lora, "lora_unet_")
    shapes |= {"bundle_emb.TOK.string_to_param.clip_l": (4, 768), "bundle_emb.TOK.string_to_param.clip_g": (4, 1280)}
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type) == ("ok", "lora")
    assert any("it carries embeddings along (TOK)" in note for note in verdict.identity.evidence)


def test_a_motion_lora_is_named_and_not_used() -> None:
    stem = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q"
    verdict = judged(pair(f"{stem}_lora", 320, 320, "down.weight", "up.weight"))
    assert (verdict.state, verdict.identity.type) == ("unusable", "lora")
    assert "AnimateDiff" in verdict.reason


def test_the_layers_of_an_ip_adapter_for_faces_make_no_lora() -> None:
    shapes = {"image_proj.norm.weight": (768,)} | pair("ip_adapter.0.to_q_lora", 320, 320, "down.weight", "up.weight")
    assert judged(shapes).identity.type != "lora"


def test_a_checkpoint_with_some_layers_of_a_lora_in_it_is_no_lora() -> None:
    shapes = {f"model.diffusion_model.{SD(name)}.weight": shape for name, shape in by.matrices(denoiser("sd-1"))}
    shapes |= pair("lora_unet_mid_block_attentions_0_proj_in", 1280, 1280)
    assert judged(shapes).identity.type == "main"


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F8_E4M3"])
def test_the_dtype_does_not_matter(dtype: str) -> None:
    verdict = judged(by.kohya(attention("sdxl"), by.lora, "lora_unet_"), dtype=dtype)
    assert (verdict.identity.type, verdict.identity.base, verdict.identity.format) == ("lora", "sdxl", "lycoris")


LEAVES = {
    *by.lora((4, 4)),
    *by.loha((4, 4)),
    *by.lokr("ab", "t")((4, 4, 3, 3)),
    *by.full((4, 4)),
    *("w_norm", "oft_blocks", "on_input", "dora_scale", "b1.weight", "lora_mid.weight", "ia3_l"),
}


@pytest.mark.parametrize("shape", [(), (0,), (0, 0), (1, 0, 0, 0), (2**40, 2**40)])
@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_no_shape_upsets_it(leaf: str, shape: tuple[int, ...]) -> None:
    stem = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert judged({f"{stem}.{leaf}": shape}).state in ("unusable", "unknown")
