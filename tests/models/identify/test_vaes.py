"""A VAE is known by its latent channels; what its shapes cannot tell is taken from texts or its name, and so marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.identity import Verdict
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import header_of
from tests.models.identify.architectures import NO_QUANT, Shapes, diffusers, original_vae, under, vae


def judged(shapes: Shapes, name: str = "vae.safetensors", hint: str | None = None, **metadata: str) -> Verdict:
    return judge(replace(header_of(shapes, metadata), path=Path(name)), hint=hint)


NAMES = [
    ("sdxl_vae.safetensors", "sdxl"),
    ("sdxl-vae-fp16-fix.safetensors", "sdxl"),
    ("xlVAEC_c9.safetensors", "sdxl"),
    ("ponyVAE.safetensors", "sdxl"),
    ("sd2-vae.safetensors", "sd-2"),
    ("vae-ft-mse-840000-ema-pruned.safetensors", "sd-1"),
    ("kl-f8-anime2.ckpt", "sd-1"),
    ("orangemix.vae.pt", "sd-1"),
    ("anything.safetensors", "sd-1"),
]


@pytest.mark.parametrize(("name", "base"), NAMES)
@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_four_channels_are_sd_or_sdxl_by_their_name_and_marked_as_assumed(name: str, base: str, layout: str) -> None:
    verdict = judged(vae() if layout == "diffusers" else original_vae(), name)
    identity = verdict.identity
    assert (verdict.state, identity.type, identity.base, identity.format) == ("ok", "vae", base, "checkpoint")
    assert identity.assumed == ("base",)
    assert identity.dialect == layout
    assert any("same shapes" in sentence for sentence in identity.evidence)


def test_metadata_decide_against_the_name() -> None:
    texts = {"modelspec.architecture": "stable-diffusion-xl-v1-base/vae"}
    identity = judge(replace(header_of(vae(), texts), path=Path("sd2.safetensors"))).identity
    assert (identity.base, identity.assumed) == ("sdxl", ())


def test_the_folder_decides_against_the_name() -> None:
    identity = judged(vae(), "something.safetensors", hint="sdxl/vae").identity
    assert (identity.base, identity.assumed) == ("sdxl", ())


def test_a_sidecar_decides_against_the_name() -> None:
    header = replace(header_of(vae()), path=Path("sdxl_vae.safetensors"))
    identity = judge(header, Sidecar.model_validate({"base": "sd-1"})).identity
    assert (identity.base, identity.assumed) == ("sd-1", ())


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
def test_a_wrapped_vae_is_a_vae(prefix: str) -> None:
    assert judged(under(prefix, original_vae()), "sdxl.vae.pt").identity.base == "sdxl"


def test_the_loss_of_its_training_does_not_hide_a_vae() -> None:
    leftovers = {"loss.logvar": (), "loss.discriminator.main.0.weight": (64, 3, 4, 4)}
    assert judged(original_vae() | leftovers).identity.type == "vae"


def test_a_vae_inside_a_larger_file_is_not_what_the_file_is() -> None:
    unet = {f"unet.blocks.{number}.weight": (8, 8) for number in range(300)}
    verdict = judged(under("vae.", original_vae()) | unet)
    assert verdict.state == "unknown"
    assert any("tensors of the file" in why for _, why in verdict.nearest)


@pytest.mark.parametrize(
    ("name", "base"),
    [("ae.safetensors", "flux"), ("flux_vae.sft", "flux"), ("sd3_vae.safetensors", "sd-3"), ("x.sft", "flux")],
)
@pytest.mark.parametrize("shapes", [vae(16, **NO_QUANT), original_vae(16, quant=False)], ids=["diffusers", "ldm"])
def test_sixteen_channels_are_flux_or_sd_3(name: str, base: str, shapes: Shapes) -> None:
    verdict = judged(shapes, name)
    assert (verdict.state, verdict.identity.base, verdict.identity.assumed) == ("ok", base, ("base",))


KINDS: list[tuple[str, Shapes, str, str]] = [
    ("FLUX.2", diffusers("AutoencoderKLFlux2"), "flux2", "ok"),
    ("Sana", diffusers("AutoencoderDC"), "sana", "ok"),
    ("CogView4", vae(16, block_out_channels=[128, 512, 1024, 1024], **NO_QUANT), "cogview4", "ok"),
    ("KVAE", diffusers("AutoencoderKLKVAE"), "kandinsky", "ok"),
    ("Wan 2.2", diffusers("AutoencoderKLWan", base_dim=160, z_dim=48, decoder_base_dim=256), "wan", "ok"),
    ("SVD", diffusers("AutoencoderKLTemporalDecoder"), "svd", "unusable"),
    ("Allegro", diffusers("AutoencoderKLAllegro"), "unknown", "unusable"),
    ("CogVideoX", diffusers("AutoencoderKLCogVideoX"), "cogvideox", "unusable"),
    ("HunyuanVideo", diffusers("AutoencoderKLHunyuanVideo"), "hunyuan-video", "unusable"),
    ("HunyuanVideo 1.5", diffusers("AutoencoderKLHunyuanVideo15"), "hunyuan-video", "unusable"),
    ("LTX", diffusers("AutoencoderKLLTXVideo"), "ltx-video", "unusable"),
    ("Mochi", diffusers("AutoencoderKLMochi"), "mochi", "unusable"),
    ("Cosmos", diffusers("AutoencoderKLCosmos"), "cosmos", "unusable"),
    ("EasyAnimate", diffusers("AutoencoderKLMagvit"), "unknown", "unusable"),
    ("stable audio", diffusers("AutoencoderOobleck"), "unknown", "unusable"),
    ("asymmetric", diffusers("AsymmetricAutoencoderKL"), "sd-1", "unusable"),
    ("consistency decoder", diffusers("ConsistencyDecoderVAE"), "sd-1", "unusable"),
    ("VQ", diffusers("VQModel"), "unknown", "unusable"),
    ("MoVQ", diffusers("VQModel", norm_type="spatial"), "kandinsky", "unusable"),
]


@pytest.mark.parametrize(("shapes", "base", "state"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_other_autoencoders_are_named_and_say_whether_they_can_be_used(shapes: Shapes, base: str, state: str) -> None:
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == (state, "vae", base)
    assert verdict.identity.assumed == ()


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("wan_2.1_vae.safetensors", "wan"),
        ("qwen_image_vae.safetensors", "qwen-image"),
        ("vae.safetensors", "qwen-image"),
    ],
)
def test_wan_and_qwen_image_share_a_vae(name: str, base: str) -> None:
    native: Shapes = {
        "conv1.weight": (32, 32, 1, 1, 1),
        "conv2.weight": (16, 16, 1, 1, 1),
        "encoder.conv1.weight": (96, 3, 3, 3, 3),
        "decoder.conv1.weight": (384, 16, 3, 3, 3),
        "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1),
        "encoder.downsamples.0.residual.0.gamma": (96, 1, 1, 1),
    }
    for shapes in (diffusers("AutoencoderKLWan"), diffusers("AutoencoderKLQwenImage"), native):
        identity = judged(shapes, name).identity
        assert (identity.type, identity.base, identity.assumed) == ("vae", base, ("base",))


def tiny_half(latents: int | None) -> Shapes:
    """Half of a tiny autoencoder as its author writes it: the decoder (of latents) or the encoder."""
    first: Shapes = {"0.weight": (64, 3, 3, 3)} if latents is None else {"1.weight": (64, latents, 3, 3)}
    start = 1 if latents is None else 3
    return first | {f"{block}.conv.{layer}.weight": (64, 64, 3, 3) for block in range(start, 19) for layer in (0, 2, 4)}


TINY: list[tuple[str, dict[str, Any], str]] = [
    ("taesd.safetensors", {}, "sd-1"),
    ("taesdxl.safetensors", {}, "sdxl"),
    ("taesd3.safetensors", {"latent_channels": 16}, "sd-3"),
    ("taef1.safetensors", {"latent_channels": 16}, "flux"),
]


@pytest.mark.parametrize(("name", "config", "base"), TINY)
def test_tiny_autoencoders_are_known_whole_and_in_halves(name: str, config: dict[str, Any], base: str) -> None:
    whole = judged(diffusers("AutoencoderTiny", **config), name)
    assert (whole.state, whole.identity.type, whole.identity.base, whole.identity.assumed) == (
        "ok",
        "vae",
        base,
        ("base",),
    )
    half = judged(tiny_half(config.get("latent_channels", 4)), name.replace(".", "_decoder."))
    assert (half.state, half.identity.type, half.identity.base) == ("unusable", "vae", base)
    assert "one half" in half.reason


def test_a_decoder_without_its_encoder_says_so() -> None:
    shapes = {name: shape for name, shape in original_vae().items() if name.startswith("decoder.")}
    verdict = judged(shapes)
    assert (verdict.state, verdict.identity.type) == ("unusable", "vae")
    assert "one half of a VAE" in verdict.reason
    assert judged(tiny_half(None)).state == "unusable"


def test_the_stages_of_stable_cascade_are_named() -> None:
    stage_a: Shapes = {
        "vquantizer.codebook.weight": (8192, 4),
        "up_blocks.0.0.weight": (4, 4, 1, 1),
        "in_block.1.weight": (48, 12, 1, 1),
    }
    encoder: Shapes = {"mapper.0.weight": (16, 1280, 1, 1), "backbone.1.0.block.0.0.weight": (24, 24, 3, 3)}
    for shapes in (stage_a, encoder):
        verdict = judged(shapes)
        assert (verdict.state, verdict.identity.base) == ("unusable", "stable-cascade")
