"""What it costs to put on LoRAs, to change them and to take them off, beside loading the model that wears them.

    python -m benchmarks.bench_adapters [--rank 32] [--precision bfloat16] [--rounds 3]

The model has the size of Stable Diffusion 1 and random weights; the times do not depend on the weights. Of two kinds
of LoRA, the usual one changes the layers of the attentions and of the text encoder, as kohya's trainers do by default,
the other one all convolutions, too. Wants 8 GB of memory and 2 GB of disk. Fails when a change between LoRAs that were
worn before takes more than a tenth of the time of loading.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.loras import Worn
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

#: What the LoRAs change, by words in the names of layers.
LAYERS = {"usual": ("attentions", "self_attn", "mlp"), "all": ("attentions", "resnets", "self_attn", "mlp")}
#: Share of the time of loading that a change may take.
BOUND = 0.1


def build(folder: Path) -> ModelRef:
    """A model of the size of Stable Diffusion 1 in half precision."""
    write_clip_tokenizer(folder / "tokenizer")
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
    encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_attention_heads=12, bos_token_id=49406, eos_token_id=49407
        )
    )
    StableDiffusionPipeline(
        vae=_filled(vae),
        text_encoder=encoder.half(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=_filled(unet),
        scheduler=PNDMScheduler(skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return ModelRef("large", str(folder), "sd-1")


def _filled(model: nn.Module) -> nn.Module:
    model = model.half().to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    return model


def write_lora(pipeline: Pipeline, file: Path, rank: int, *words: str) -> Worn:
    """A LoRA for the layers with one of the words in their names."""
    state: dict[str, Tensor] = {}
    changed = 0
    for prefix, model in (("lora_unet_", pipeline.denoiser.model), ("lora_te_", pipeline.prompts.encoders[0].model)):
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and any(word in name for word in words):
                rows, columns, *kernel = layer.weight.shape
                stem = prefix + name.replace(".", "_")
                state[f"{stem}.lora_down.weight"] = torch.randn(rank, columns, *kernel).half()
                state[f"{stem}.lora_up.weight"] = torch.randn(rows, rank, *[1] * len(kernel)).half()
                state[f"{stem}.alpha"] = torch.tensor(1.0)
                changed += layer.weight.numel()
    save_file(state, file)
    size = file.stat().st_size / 1e6
    print(f"{file.stem}: {len(state) // 3} layers of {changed / 1e6:.0f} M weights, {size:.0f} MB", flush=True)
    return Worn(ModelRef(file.stem, str(file), "sd-1", "lora"), 0.8, 0.8)


def seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, device = build(Path(scratch) / "model"), torch.device(wanted.device)
        loads = [seconds(lambda: load_pipeline(model, device, wanted.precision, cores=2)) for _ in range(wanted.rounds)]
        load = statistics.median(loads)
        print(f"load the model: {load:.2f} s", flush=True)
        pipeline = load_pipeline(model, device, wanted.precision, cores=2)
        is_within = True
        for kind, words in LAYERS.items():
            one, other = (
                write_lora(pipeline, Path(scratch) / f"{kind}-{number}.safetensors", wanted.rank, *words)
                for number in (1, 2)
            )
            is_within = measure(pipeline, one, other, load, wanted.rounds) and is_within
    sys.exit(not is_within)


def measure(pipeline: Pipeline, one: Worn, other: Worn, load: float, rounds: int) -> bool:
    """Print what every step costs. False when a change takes too long."""

    def wear(*outfit: Worn) -> None:
        pipeline.wardrobe.fit(outfit)
        pipeline.wardrobe.dress_denoiser(outfit)
        pipeline.wardrobe.dress_encoders(outfit)

    figures: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        # With other weights they are not those of the round before.
        first, second = replace(one, weight=0.5 + 0.1 * number), replace(other, weight=0.5 + 0.1 * number)
        steps: dict[str, tuple[Worn, ...]] = {
            "read and put on": (first,),
            "read another one and change": (second,),
            "change back": (first,),
            "take off": (),
            "put on again": (second,),
            "keep on": (second,),
        }
        for name, outfit in steps.items():
            figures[name].append(seconds(partial(wear, *outfit)))
        wear()
        pipeline.wardrobe._fitted.clear()
    medians = {name: statistics.median(each) for name, each in figures.items()}
    for name, spent in medians.items():
        print(f"  {name}: {spent:.3f} s, {spent / load:.1%} of loading", flush=True)
    return max(medians["change back"], medians["take off"], medians["put on again"]) <= BOUND * load


if __name__ == "__main__":
    main()
