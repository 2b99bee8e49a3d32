"""What only looks like a family is not taken for it, and a part inside a larger model does not name the model."""

from __future__ import annotations

import time

import pytest

from invokeai_daemon.models.identify import control, embedding, encoders, judge, others, upscalers, vae
from invokeai_daemon.models.identify.table import Family
from invokeai_daemon.models.identify.weights import Weights
from tests.models.build import header_of, sd_1
from tests.models.identify.architectures import (
    Shapes,
    diffusers,
    original_unet,
    original_vae,
    transformers,
    under,
)
from tests.models.identify.architectures import vae as plain_vae

ROOMS: tuple[Family, ...] = (
    *embedding.FAMILIES,
    *vae.FAMILIES,
    *control.FAMILIES,
    *encoders.FAMILIES,
    *upscalers.FAMILIES,
    *others.FAMILIES,
)


def fitting(shapes: Shapes) -> list[str]:
    """The names of the families of parts that a file fits."""
    weights = Weights(header_of(shapes))
    return [family.name for family in ROOMS if family.held_against(weights).fits]


def kohya_lora(modules: int) -> Shapes:
    shapes: Shapes = {}
    for number in range(modules):
        name = f"lora_unet_down_blocks_{number}_attentions_0_transformer_blocks_0_attn2_to_k"
        shapes |= {f"{name}.lora_down.weight": (8, 768), f"{name}.lora_up.weight": (320, 8), f"{name}.alpha": ()}
    return shapes


def text_encoder_lora() -> Shapes:
    stem = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    return {f"{stem}.lora_down.weight": (8, 768), f"{stem}.lora_up.weight": (768, 8)}


def peft_of_clip() -> Shapes:
    stem = "text_model.encoder.layers.0.self_attn.q_proj"
    return {f"{stem}.lora_A.weight": (8, 768), f"{stem}.lora_B.weight": (768, 8)}


SDXL = under("model.diffusion_model.", original_unet(2048, sizes=True)) | under("first_stage_model.", original_vae())
CLIP = transformers("CLIPTextModel", "CLIPTextConfig", hidden_size=768, num_attention_heads=12, num_hidden_layers=2)

#: Nothing of the rooms of parts may fit these.
STRANGERS: list[tuple[str, Shapes]] = [
    ("an SD-1 checkpoint", {name: tuple(shape) for name, shape in sd_1().items()}),
    ("an SDXL checkpoint", SDXL),
    ("an SDXL checkpoint with its text encoder", SDXL | under("conditioner.embedders.0.transformer.text_model.", CLIP)),
    ("a UNet alone", original_unet(768)),
    ("a UNet of diffusers", diffusers("UNet2DConditionModel", cross_attention_dim=768)),
    ("a LoRA", kohya_lora(40)),
    ("a LoRA of three layers", kohya_lora(1)),
    ("a LoRA of the text encoder", text_encoder_lora()),
    ("a PEFT LoRA of CLIP", peft_of_clip()),
    ("a FLUX transformer", diffusers("FluxTransformer2DModel", num_layers=1, num_single_layers=1)),
    ("an SD-3 transformer", diffusers("SD3Transformer2DModel", num_layers=1)),
    ("a Qwen-Image transformer", diffusers("QwenImageTransformer2DModel", num_layers=1)),
    ("a Z-Image transformer", diffusers("ZImageTransformer2DModel", n_layers=1, n_refiner_layers=1)),
    ("a Wan transformer", diffusers("WanTransformer3DModel", num_layers=1)),
    ("a Sana transformer", diffusers("SanaTransformer2DModel", num_layers=1)),
    ("a PixArt transformer", diffusers("PixArtTransformer2DModel", num_layers=1)),
    ("a CogView4 transformer", diffusers("CogView4Transformer2DModel", num_layers=1)),
    ("a Lumina 2 transformer", diffusers("Lumina2Transformer2DModel", num_layers=1)),
    ("a ResNet", {"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3), "fc.weight": (1000, 2048)}),
    ("a BERT", transformers("BertModel", "BertConfig", num_hidden_layers=2)),
    ("a Whisper", transformers("WhisperModel", "WhisperConfig", encoder_layers=2, decoder_layers=2)),
    ("convolutions named body", {"body.0.weight": (8, 8), "body.1.weight": (8, 8)}),
    ("convolutions named model", {"model.0.weight": (8, 8), "model.2.weight": (8, 8)}),
    ("a head", {"conv_first.weight": (64, 3, 3, 3), "conv_last.weight": (3, 64, 3, 3)}),
    ("latents", {"latent_tensor": (1, 4, 64, 64), "latent_format_version_0": ()}),
    ("one number", {"x": ()}),
    ("nothing", {}),
]


@pytest.mark.parametrize("shapes", [case[1] for case in STRANGERS], ids=[case[0] for case in STRANGERS])
def test_what_is_no_part_fits_no_family_of_parts(shapes: Shapes) -> None:
    assert fitting(shapes) == []


#: Parts that share names with other parts: exactly one family each.
NEIGHBOURS: list[tuple[str, Shapes]] = [
    ("a VAE", plain_vae()),
    ("a VAE with a codebook", diffusers("VQModel")),
    ("a ControlNet", diffusers("ControlNetModel", cross_attention_dim=768)),
    ("a sparse ControlNet", diffusers("SparseControlNetModel")),
    ("a FLUX ControlNet", diffusers("FluxControlNetModel", num_layers=1, num_single_layers=1)),
    ("a Qwen-Image ControlNet", diffusers("QwenImageControlNetModel", num_layers=1)),
    ("a motion adapter", diffusers("MotionAdapter")),
    ("a CLIPSeg", transformers("CLIPSegForImageSegmentation", "CLIPSegConfig")),
    ("a BLIP", transformers("BlipForConditionalGeneration", "BlipConfig")),
    ("a SigLIP with both towers", transformers("SiglipModel", "SiglipConfig")),
    ("a LLaVA", transformers("LlavaForConditionalGeneration", "LlavaConfig")),
    ("a DPT", transformers("DPTForDepthEstimation", "DPTConfig")),
    ("a Depth Anything", transformers("DepthAnythingForDepthEstimation", "DepthAnythingConfig")),
]


@pytest.mark.parametrize("shapes", [case[1] for case in NEIGHBOURS], ids=[case[0] for case in NEIGHBOURS])
def test_neighbours_are_one_family_each(shapes: Shapes) -> None:
    assert len(fitting(shapes)) == 1
    assert judge(header_of(shapes)).identity.type != "unknown"


@pytest.mark.parametrize("begin", ["lora_unet_", "model.diffusion_model.", "transformer.", "module.x."])
def test_a_file_of_another_room_costs_little(begin: str) -> None:
    header = header_of({f"{begin}blocks_{number}.attn.to_k.lora_down.weight": (8, 320) for number in range(1000)})

    def seconds() -> float:
        weights = Weights(header)
        assert len(weights) == 1000
        start = time.perf_counter()
        for family in ROOMS:
            family.held_against(weights)
        return time.perf_counter() - start

    # Measured 0.8 ms; a machine under load takes longer.
    assert min(seconds() for _ in range(7)) < 0.004
