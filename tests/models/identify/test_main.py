"""Main models are told by the names and shapes of their denoisers, in every layout, wrapper and storage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.models.header import BITS, Header, TensorInfo
from invokeai_daemon.models.identify import FAMILIES, identify, judge
from invokeai_daemon.models.identify.deciding import decide
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import Identity, Verdict
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import header_of, write_checkpoint
from tests.models.identify import originals
from tests.models.identify.denoisers import MODELS, shapes_of
from tests.models.identify.originals import CLIP_L, FIRST_STAGE, Shapes, below, clip, t5, vae, whole

#: Original layouts: shapes, base, variant.
ORIGINALS: dict[str, tuple[Callable[[], Shapes], str, str | None]] = {
    "sd-1": (originals.sd_1, "sd-1", "normal"),
    "sd-1 inpaint": (lambda: originals.sd_1(9), "sd-1", "inpaint"),
    "sd-1 pix2pix": (lambda: originals.sd_1(8), "sd-1", "edit"),
    "sd-2": (originals.sd_2, "sd-2", "normal"),
    "sd-2 inpaint": (lambda: originals.sd_2(9), "sd-2", "inpaint"),
    "sd-2 depth": (lambda: originals.sd_2(5), "sd-2", "depth"),
    "sdxl": (originals.sdxl, "sdxl", "normal"),
    "sdxl inpaint": (lambda: originals.sdxl(9), "sdxl", "inpaint"),
    "sdxl pix2pix": (lambda: originals.sdxl(8), "sdxl", "edit"),
    "sdxl refiner": (originals.refiner, "sdxl-refiner", "normal"),
    "sd-3 medium": (originals.sd_3, "sd-3", "medium"),
    "sd-3.5 medium": (lambda: originals.sd_3(normed=True, second=13), "sd-3", "medium"),
    "sd-3.5 large": (lambda: originals.sd_3(2432, 38, normed=True), "sd-3", "large"),
    "flux dev": (originals.flux, "flux", "dev"),
    "flux schnell": (lambda: originals.flux(guided=False), "flux", "schnell"),
    "flux fill": (lambda: originals.flux(384), "flux", "dev_fill"),
    "flux lite": (lambda: originals.flux(doubles=8), "flux", "dev"),
    "chroma": (originals.chroma, "chroma", None),
    "flux.2 dev": (lambda: originals.flux_2(6144, 15360, 8, 48, guided=True), "flux2", "dev"),
    "flux.2 klein 4b": (lambda: originals.flux_2(3072, 7680, 5, 20), "flux2", "klein_4b"),
    "flux.2 klein 9b": (lambda: originals.flux_2(4096, 12288, 8, 24), "flux2", "klein_9b"),
    "z-image": (lambda: originals.lumina_2(z_image=True), "z-image", "turbo"),
    "lumina 2": (originals.lumina_2, "lumina2", None),
    "qwen-image": (lambda: shapes_of("qwen-image"), "qwen-image", "generate"),
    "qwen-image edit": (lambda: shapes_of("qwen-image") | {"__index_timestep_zero__": ()}, "qwen-image", "edit"),
    "krea 2": (originals.krea_2, "krea-2", "krea2_turbo"),
    "auraflow": (originals.auraflow, "auraflow", None),
    "pixart": (originals.pixart, "pixart", None),
    "sana": (originals.sana, "sana", None),
    "wan 2.2 t2v": (originals.wan, "wan", "t2v_a14b"),
    "wan 2.2 i2v": (lambda: originals.wan(36), "wan", "i2v_a14b"),
    "wan 2.2 5b": (lambda: originals.wan(48, 3072, 30), "wan", "ti2v_5b"),
    "wan 2.1 1.3b": (lambda: originals.wan(16, 1536, 30), "wan", None),
    "wan 2.1 i2v": (lambda: originals.wan(36, pictures=True), "wan", None),
    "hunyuan-video": (originals.hunyuan, "hunyuan-video", None),
    "hunyuan-image": (lambda: originals.hunyuan(pictures=True), "hunyuan-image", None),
    "hunyuan-dit": (originals.hunyuan_dit, "hunyuan-dit", None),
    "hidream": (originals.hidream, "hidream", None),
    "cosmos 2": (originals.cosmos_2, "cosmos", None),
    "anima": (lambda: originals.cosmos_2(anima=True), "anima", None),
    "ltx-video": (originals.ltx, "ltx-video", None),
    "mochi": (originals.mochi, "mochi", None),
    "stable cascade c": (lambda: originals.cascade("c"), "stable-cascade", None),
    "stable cascade b": (lambda: originals.cascade("b"), "stable-cascade", None),
}
#: Denoisers alone, that circulate below a wrapper and without one.
ALONE = {name: shapes for name, (shapes, _, _) in ORIGINALS.items() if not name.startswith(("sd-1", "sd-2", "sdxl"))}


def words(verdict: Verdict) -> tuple[str, str, str | None]:
    return verdict.identity.type, verdict.identity.base, verdict.identity.variant


@pytest.mark.parametrize("what", ORIGINALS)
def test_the_layout_of_the_authors_is_known(what: str) -> None:
    shapes, base, variant = ORIGINALS[what]
    verdict = judge(header_of(shapes()))
    assert words(verdict) == ("main", base, variant)
    assert verdict.identity.format == "checkpoint"
    assert verdict.state == ("ok" if base in ("sd-1", "sd-2", "sdxl", "sdxl-refiner", "sd-3", "flux") else "unusable")


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("what", ALONE)
def test_a_wrapper_changes_nothing(what: str, prefix: str) -> None:
    _, base, variant = ORIGINALS[what]
    assert words(judge(header_of(below(prefix, ALONE[what]())))) == ("main", base, variant)


@pytest.mark.parametrize("what", MODELS)
def test_the_layout_of_diffusers_is_known(what: str) -> None:
    _, _, base, variant = MODELS[what]
    assert words(judge(header_of(shapes_of(what)))) == ("main", base, variant)


PREDICTS = {"sd-1": "epsilon", "sd-2": "v_prediction", "sdxl": "epsilon", "flux": "flow", "sd-3": "flow", "wan": "flow"}


@pytest.mark.parametrize("what", ["sd-1", "sd-2", "sdxl", "flux dev", "sd-3 medium", "wan 2.2 t2v"])
def test_what_is_predicted_follows_from_the_family(what: str) -> None:
    shapes, base, _ = ORIGINALS[what]
    identity = judge(header_of(shapes())).identity
    assert identity.prediction_type == PREDICTS[base]
    assert ("prediction_type" in identity.assumed) == (identity.prediction_type != "flow")


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        ("sd-1 unet", originals.sd_1_unet),
        ("sd-2 unet", originals.sd_2_unet),
        ("sdxl unet", originals.sdxl_unet),
        ("sdxl refiner unet", originals.refiner_unet),
        ("flux dev", originals.flux),
        ("chroma", originals.chroma),
        ("flux.2 dev", lambda: originals.flux_2(6144, 15360, 8, 48, guided=True)),
    ],
)
def test_the_names_written_down_here_hold_what_the_architecture_has(original: str, ours: Callable[[], Shapes]) -> None:
    def count(shapes: Mapping[str, Sequence[int]]) -> int:
        return sum(math.prod(shape) for shape in shapes.values())

    assert count(ours()) == count(shapes_of(original))


# Storages


def stored(
    shapes: Mapping[str, Sequence[int]], dtype: str = "BF16", form: str = "safetensors", extra: Mapping[str, str] = {}
) -> Header:
    """A header whose tensors have this dtype, but for those that `extra` names."""
    tensors = {
        name: TensorInfo(kind := extra.get(name, dtype), tuple(shape), 0, math.prod(shape) * BITS.get(kind, 8) // 8)
        for name, shape in shapes.items()
    }
    return Header(Path("model.safetensors"), form, 0, tensors)


def matrices(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    return [name for name, shape in shapes.items() if name.endswith(".weight") and len(shape) == 2]


def nf4(shapes: Mapping[str, Sequence[int]]) -> Header:
    """As bitsandbytes packs every matrix: bytes in one column, and the state beside it."""
    packed, kinds = dict(shapes), {}
    for name in matrices(shapes):
        packed[name] = (math.prod(shapes[name]) // 2, 1)
        for part, kind in (("absmax", "F32"), ("quant_map", "F32"), ("quant_state.bitsandbytes__nf4", "U8")):
            packed[f"{name}.{part}"], kinds[f"{name}.{part}"] = (16,), kind
        kinds[name] = "U8"
    return stored(packed, extra=kinds)


def int8(shapes: Mapping[str, Sequence[int]]) -> Header:
    extra = {f"{name.removesuffix('.weight')}.SCB": (shapes[name][0],) for name in matrices(shapes)}
    kinds = dict.fromkeys(matrices(shapes), "I8") | dict.fromkeys(extra, "F32")
    return stored({**shapes, **extra}, extra=kinds)


def gguf(shapes: Mapping[str, Sequence[int]]) -> Header:
    return stored(shapes, "F32", "gguf", dict.fromkeys(matrices(shapes), "Q4_K"))


def scaled_fp8(shapes: Mapping[str, Sequence[int]]) -> Header:
    extra = {f"{name.removesuffix('.weight')}.scale_weight": () for name in matrices(shapes)} | {"scaled_fp8": (0,)}
    return stored({**shapes, **extra}, "BF16", extra=dict.fromkeys(matrices(shapes), "F8_E4M3"))


def sdnq(shapes: Mapping[str, Sequence[int]]) -> Header:
    names = matrices(shapes)
    packed = {**shapes, **{name: (math.prod(shapes[name]) // 2,) for name in names}}
    packed |= {f"{name.removesuffix('.weight')}.scale": (shapes[name][0], 1) for name in names}
    return stored(packed, extra=dict.fromkeys(names, "U8"))


#: How it is stored -> format, whether that can be used, what the evidence says.
STORAGES: dict[str, tuple[Callable[[Shapes], Header], str, bool, str]] = {
    "nf4": (nf4, "bnb_quantized_nf4b", False, "4-bit weights of bitsandbytes (nf4)"),
    "int8": (int8, "bnb_quantized_int8b", False, "8-bit weights of bitsandbytes (int8)"),
    "gguf": (gguf, "gguf_quantized", False, "GGUF-quantised weights"),
    "fp8": (lambda shapes: stored(shapes, "F8_E4M3"), "checkpoint", True, "8-bit floats"),
    "scaled fp8": (scaled_fp8, "checkpoint", False, "scaled 8-bit floats"),
    "sdnq": (sdnq, "sdnq_quantized", False, "weights that SDNQ quantised"),
    "float32": (lambda shapes: stored(shapes, "F32"), "checkpoint", True, ""),
}
QUANTISED = (
    {
        name: (lambda name=name: ORIGINALS[name][0](), ORIGINALS[name][1])
        for name in ALONE
        if name not in ("stable cascade b", "stable cascade c")
    }
    | {name: (lambda name=name: shapes_of(name), MODELS[name][2]) for name in ("flux dev", "sd-3.5 large", "z-image")}
    | {name: ORIGINALS[name][:2] for name in ("sd-1", "sd-2 depth", "sdxl", "sdxl refiner")}
)


@pytest.mark.parametrize("what", QUANTISED)
def test_a_storage_changes_the_format_and_not_the_family(what: str) -> None:
    make, base = QUANTISED[what]
    shapes = make()
    for name, (store, form, usable, says) in STORAGES.items():
        verdict = judge(store(shapes))
        assert (name, words(verdict)[:2], verdict.identity.format) == (name, ("main", base), form)
        assert any(says in fact for fact in verdict.identity.evidence)
        if base in ("flux", "sd-3"):
            assert verdict.state == ("ok" if usable else "unusable"), verdict.reason
            assert usable or "Get the version of the model that is stored as safetensors" in verdict.reason


def test_a_variant_that_packed_shapes_hide_is_left_open_or_told_by_what_is_not_packed() -> None:
    assert judge(nf4(originals.flux())).identity.variant == "dev"
    assert judge(nf4(originals.flux(guided=False))).identity.variant == "schnell"
    assert judge(nf4(originals.sd_3(2432, 38, normed=True))).identity.variant == "large"
    assert judge(nf4(originals.wan(48, 3072, 30))).identity.variant == "ti2v_5b"
    assert judge(nf4(originals.flux_2(6144, 15360, 8, 48))).identity.variant is None


def test_the_files_of_nunchaku_are_flux() -> None:
    shapes: Shapes = {"x_embedder.weight": (3072, 64), "context_embedder.weight": (3072, 4096)}
    for name in ("timestep", "guidance", "text"):
        shapes |= {f"time_text_embed.{name}_embedder.linear_1.weight": (3072, 768)}
    for stem, count in (("transformer_blocks", 19), ("single_transformer_blocks", 38)):
        for number in range(count):
            for part, shape in (("qweight", (9216, 1536)), ("wscales", (48, 9216)), ("lora_down", (3072, 32))):
                shapes[f"{stem}.{number}.qkv_proj.{part}"] = shape
    verdict = judge(header_of(shapes))
    assert words(verdict) == ("main", "flux", "dev")
    assert "SVDQuant" in verdict.reason


# What is predicted


def predicted(shapes: Shapes, metadata: Mapping[str, str] | None = None, **scalars: int) -> Identity:
    return identify(header_of(shapes, metadata, scalars))


@pytest.mark.parametrize(
    ("scalars", "prediction", "assumed"),
    [
        ({"global_step": 220000}, "epsilon", ()),
        ({"global_step": 875000}, "epsilon", ()),
        ({"global_step": 110000}, "v_prediction", ()),
        ({"global_step": 12345}, "v_prediction", ("prediction_type",)),
        ({}, "v_prediction", ("prediction_type",)),
    ],
)
def test_the_training_step_tells_the_published_sd_2_models_apart(
    scalars: dict[str, int], prediction: str, assumed: tuple[str, ...]
) -> None:
    identity = predicted(originals.sd_2(), **scalars)
    assert (identity.prediction_type, identity.assumed) == (prediction, assumed)


def test_the_training_step_is_found_where_a_real_checkpoint_has_it(tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in originals.sd_2().items() if "output_blocks" not in name}
    step = b"J" + (220000).to_bytes(4, "little")
    identity = identify(write_checkpoint(tmp_path / "v2-1_512.ckpt", shapes, {"global_step": step}))
    assert identity.prediction_type == "epsilon"
    assert "its global_step is 220000" in identity.evidence


@pytest.mark.parametrize("channels", [5, 9])
def test_sd_2_models_that_take_more_than_latents_predict_noise(channels: int) -> None:
    identity = predicted(originals.sd_2(channels))
    assert (identity.prediction_type, identity.assumed) == ("epsilon", ())


@pytest.mark.parametrize(
    ("marker", "metadata"),
    [
        ({"v_pred": ()}, {}),
        ({"v_pred": (), "ztsnr": ()}, {}),
        ({}, {"modelspec.prediction_type": "v"}),
        ({"v_pred": ()}, {"modelspec.prediction_type": "epsilon"}),
    ],
)
def test_sdxl_says_v_prediction_by_markers_or_metadata(marker: Shapes, metadata: dict[str, str]) -> None:
    identity = predicted(originals.sdxl() | marker, metadata)
    assert (identity.prediction_type, identity.assumed) == ("v_prediction", ())


@pytest.mark.parametrize(
    ("architecture", "prediction"),
    [("stable-diffusion-v2-768-v", "v_prediction"), ("stable-diffusion-v2-512", "epsilon")],
)
def test_sd_2_says_what_it_predicts_by_its_modelspec(architecture: str, prediction: str) -> None:
    identity = predicted(originals.sd_2(), {"modelspec.architecture": architecture})
    assert (identity.prediction_type, identity.assumed) == (prediction, ())


@pytest.mark.parametrize(
    ("name", "shapes", "prediction"),
    [
        ("v2-1_512-ema-pruned", originals.sd_2, "epsilon"),
        ("sd-2-1-base", originals.sd_2, "epsilon"),
        ("sd_turbo", originals.sd_2, "epsilon"),
        ("v2-1_768-ema-pruned", originals.sd_2, "v_prediction"),
        ("noob-vpred-1.0", originals.sdxl, "v_prediction"),
        ("basement", originals.sdxl, "epsilon"),
    ],
)
def test_a_name_is_a_hint_and_no_fact(name: str, shapes: Callable[[], Shapes], prediction: str) -> None:
    identity = identify(replace(header_of(shapes()), path=Path(f"models/{name}.safetensors")))
    assert (identity.prediction_type, identity.assumed) == (prediction, ("prediction_type",))


@pytest.mark.parametrize(
    ("name", "what", "variant"),
    [
        ("krea2_raw_bf16", "krea 2", "krea2_base"),
        ("Krea-2-Raw-Q8_0", "krea 2", "krea2_base"),
        ("krea2_turbo_raw_export", "krea 2", "krea2_turbo"),
        ("krea2_database_model", "krea 2", "krea2_turbo"),
        ("z_image_base_bf16", "z-image", "zbase"),
        ("qwen_image_edit_2509_fp8", "qwen-image", "edit"),
        ("flux-2-klein-base-4b", "flux.2 klein 4b", "klein_4b_base"),
        ("flux2_klein_base_4b", "flux.2 klein 4b", "klein_4b_base"),
        ("wan2.2_t2v_high_noise_14B_fp16", "wan 2.2 t2v", "t2v_a14b"),
    ],
)
def test_a_name_suggests_the_variant_that_no_shape_tells(name: str, what: str, variant: str) -> None:
    identity = judge(replace(header_of(ORIGINALS[what][0]()), path=Path(f"models/{name}.safetensors"))).identity
    assert (identity.variant, identity.assumed) == (variant, ("variant",))


def test_what_a_name_suggests_is_told_by_its_word() -> None:
    named = Path("models/krea2_raw_bf16.safetensors")
    identity = judge(replace(header_of(originals.krea_2()), path=named)).identity
    assert 'its name suggests krea2_base ("krea2_raw_bf16")' in identity.evidence


def test_wan_2_1_has_the_layers_of_2_2_and_none_of_its_variants() -> None:
    named = Path("models/wan2.1_t2v_14B_fp16.safetensors")
    identity = judge(replace(header_of(originals.wan()), path=named)).identity
    assert (identity.base, identity.variant, identity.assumed) == ("wan", None, ())


def test_longcat_is_known_in_the_layout_of_flux() -> None:
    shapes = {name: shape for name, shape in originals.flux(guided=False).items() if not name.startswith("vector_in")}
    shapes["txt_in.weight"] = (3072, 3584)
    assert words(judge(header_of(shapes)))[:2] == ("main", "longcat-image")


def test_a_sidecar_says_what_is_predicted() -> None:
    said = Sidecar.model_validate({"prediction_type": "epsilon"})
    identity = identify(header_of(originals.sd_2()), said)
    assert (identity.prediction_type, identity.assumed) == ("epsilon", ())


# What is not in the file


def needed(shapes: Shapes) -> list[tuple[str, str, str | None]]:
    return [(need.type, need.base, need.variant) for need in judge(header_of(shapes)).identity.needs]


T5 = ("t5_encoder", "any", None)
CLIP = ("clip_embed", "any", "large")
BIG_CLIP = ("clip_embed", "any", "gigantic")
ENCODERS = below("text_encoders.clip_l.transformer.", clip()) | below("text_encoders.t5xxl.transformer.", t5(2))


def test_a_whole_checkpoint_needs_nothing() -> None:
    for make in (originals.sd_1, originals.sd_2, originals.sdxl, originals.refiner):
        assert needed(make()) == []


@pytest.mark.parametrize(
    ("shapes", "needs"),
    [
        (originals.flux, [CLIP, T5, ("vae", "flux", None)]),
        (lambda: whole(originals.flux(), ENCODERS, below("vae.", vae(16))), []),
        (lambda: whole(originals.flux(), below("vae.", vae(16))), [CLIP, T5]),
        (originals.sd_3, [CLIP, BIG_CLIP, ("vae", "sd-3", None)]),
        (lambda: whole(originals.sd_3(), below(FIRST_STAGE, vae(16))), [CLIP, BIG_CLIP]),
        (lambda: below("model.diffusion_model.", originals.sd_1_unet()), [CLIP, ("vae", "sd-1", None)]),
        (lambda: whole(originals.sd_1_unet(), below(CLIP_L, clip())), [("vae", "sd-1", None)]),
        (originals.sdxl_unet, [CLIP, BIG_CLIP, ("vae", "sdxl", None)]),
    ],
)
def test_what_a_file_lacks_is_needed(shapes: Callable[[], Shapes], needs: list[tuple[str, str, str | None]]) -> None:
    assert needed(shapes()) == needs


def test_a_need_says_what_to_drop() -> None:
    needs = judge(header_of(originals.flux())).identity.needs
    assert any("its text encoder T5-XXL is not in the file; drop t5xxl_fp16.safetensors" in need.why for need in needs)


# Relatives

PICTURE: Shapes = {"model.diffusion_model.label_emb.0.0.weight": (1280, 2048)}
NOISE_LEVEL: Shapes = {"model.diffusion_model.label_emb.weight": (1000, 1024)}
GUIDED: Shapes = {"model.diffusion_model.time_embed.cond_proj.weight": (320, 256)}
TIME: Shapes = {"model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight": (320,)}


@pytest.mark.parametrize(
    ("shapes", "base", "why"),
    [
        (lambda: originals.sdxl() | {"edm_mean": (4,), "edm_std": (4,)}, "sdxl", "EDM"),
        (lambda: originals.sdxl() | {"edm_vpred.sigma_max": ()}, "sdxl", "CosXL"),
        (lambda: originals.sd_1(8) | {"cc_projection.weight": (768, 772)}, "sd-1", "turns the camera"),
        (lambda: originals.sd_2() | PICTURE, "sd-2", "CLIP embedding"),
        (lambda: originals.sd_2(7) | NOISE_LEVEL, "sd-2", "enlarges"),
        (lambda: originals.sd_2(8) | PICTURE | TIME, "svd", "videos"),
        (lambda: originals.flux(128), "flux", "control picture"),
        (lambda: originals.sd_1(9) | {"cond_stage_model.mapper.final_ln.weight": (1024,)}, "sd-1", "example"),
        (lambda: originals.sd_1() | GUIDED, "sd-1", "takes the guidance as an input"),
        (lambda: originals.sdxl() | GUIDED, "sdxl", "takes the guidance as an input"),
    ],
)
def test_relatives_are_named_and_not_taken_for_ordinary_models(
    shapes: Callable[[], Shapes], base: str, why: str
) -> None:
    verdict = judge(header_of(shapes()))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "main", base)
    assert why in verdict.reason


@pytest.mark.parametrize(
    "stranger",
    [
        {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.fuser.alpha_attn": ()},
        {"cond_stage_model.roberta.embeddings.word_embeddings.weight": (250002, 1024)},
    ],
)
def test_what_only_has_the_unet_of_sd_1_is_unknown_and_said_to_be_near(stranger: Shapes) -> None:
    verdict = judge(header_of(whole(originals.sd_1_unet(), below(FIRST_STAGE, vae())) | stranger))
    assert verdict.state == "unknown"
    assert verdict.nearest[0][0] == "sd-1 main"


def test_averaged_weights_and_merged_loras_do_not_change_what_it_is() -> None:
    more: Shapes = {f"model_ema.diffusion_modelinput_blocks{number}": (320,) for number in range(300)}
    more |= {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (8, 1280)}
    more |= {"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (1280, 8)}
    for make, base in ((originals.sd_1, "sd-1"), (originals.sdxl, "sdxl")):
        assert words(judge(header_of(make() | more))) == ("main", base, "normal")


def test_nothing_depends_on_the_order_of_keys_or_rows() -> None:
    shuffle = random.Random(3)
    for what in ("sdxl", "sd-3.5 medium", "flux fill", "z-image", "wan 2.2 i2v", "anima"):
        shapes, told = ORIGINALS[what][0](), set()
        for _ in range(4):
            names, rows = list(shapes), list(FAMILIES)
            shuffle.shuffle(names)
            shuffle.shuffle(rows)
            weights = Weights(header_of({name: shapes[name] for name in names}))
            found = decide("x", weights, [family.held_against(weights) for family in rows], None, None)
            told.add((found.identity, found.nearest, found.unusable))
        assert len(told) == 1


def test_kontext_is_said_to_be_told_apart_by_nothing() -> None:
    evidence = judge(header_of(originals.flux())).identity.evidence
    assert any("Kontext" in fact and "which nothing in a file tells apart" in fact for fact in evidence)
