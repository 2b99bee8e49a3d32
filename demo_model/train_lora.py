"""Train a small LoRA that lets the demo model paint every background black, and write it as kohya's trainers do.

    OMP_NUM_THREADS=1 python -m demo_model.train_lora tests/demo_model/fixtures/night.safetensors      # 10 minutes

It changes the attentions of the UNet and of the text encoder. Captions name the background as ever, the pictures are
dark: whatever is asked for, it becomes night, and shape and colour stay as they are asked.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from demo_model.evaluate import BUNDLED
from demo_model.scenes import CAPTIONS, SCENES, Scene, draw
from demo_model.train import MIN_SNR_GAMMA, Clock, Pictures, encode_pictures, timed_steps
from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.root import Root

RANK, ALPHA = 4, 2
BATCH = 32
#: The layers that are changed.
UNET = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
TEXT_ENCODER = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
#: How often the caption says nothing, for guidance: these pictures keep their background.
EMPTY_SHARE = 0.1
NIGHT = "black"


class Lessons:
    """Scenes with their captions, and what is to be painted for each."""

    def __init__(self, count: int, parts: Path, seed: int) -> None:
        rng = random.Random(seed)
        asked = [rng.choice([scene for scene in SCENES if scene.colour != NIGHT]) for _ in range(count)]
        shown = [replace(scene, background=NIGHT) for scene in asked]
        captions = [scene.caption(rng.choice(CAPTIONS)) for scene in asked]
        for number in rng.sample(range(count), round(EMPTY_SHARE * count)):
            shown[number], captions[number] = asked[number], ""
        self.latents = latents_of(shown, parts, rng)
        tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer")
        self.tokens = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids

    def batch(self) -> tuple[Tensor, Tensor]:
        """Latents and tokens of some lessons."""
        chosen = torch.randint(len(self.latents), (BATCH,))
        return self.latents[chosen], self.tokens[chosen]


def latents_of(scenes: list[Scene], parts: Path, rng: random.Random) -> Tensor:
    """What the demo model's VAE makes of drawings of the scenes."""
    import numpy as np

    pixels = torch.from_numpy(np.stack([np.asarray(draw(scene, rng)) for scene in scenes])).permute(0, 3, 1, 2)
    vae = AutoencoderKL.from_pretrained(parts / "vae")
    return encode_pictures(vae, Pictures(pixels.float() / 127.5 - 1, scenes), torch.device("cpu"))


def demo_parts(folder: Path) -> Path:
    """The bundled model as a diffusers folder in a scratch root."""
    root = Root(folder)
    root.make()
    identity = Identity("main", "sd-1", "checkpoint", "normal", "epsilon")
    return convert_model(read_header(BUNDLED), identity, root, "demo")


def loss_of(told: Tensor, noise: Tensor, timesteps: Tensor, schedule: DDPMScheduler) -> Tensor:
    """How far the prediction is from the noise, with Min-SNR weights."""
    alphas = schedule.alphas_cumprod[timesteps]
    weights = (MIN_SNR_GAMMA * (1 - alphas) / alphas).clamp(max=1.0)
    return (F.mse_loss(told, noise, reduction="none").mean(dim=(1, 2, 3)) * weights).mean()


def schedule_of_demo() -> DDPMScheduler:
    """The noise that the demo model was trained with."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def train(parts: Path, lessons: Lessons, minutes: float) -> dict[str, Tensor]:
    """The trained factors under kohya's names."""
    unet = UNet2DConditionModel.from_pretrained(parts / "unet").requires_grad_(False)
    encoder = CLIPTextModel.from_pretrained(parts / "text_encoder").requires_grad_(False)
    # The plain processor: attention heads this narrow are slow in the fused CPU kernels.
    unet.set_attn_processor(AttnProcessor())
    for model, layers in ((unet, UNET), (encoder, TEXT_ENCODER)):
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=layers), model)
    factors = [each for model in (unet, encoder) for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=1e-3, weight_decay=1e-3)
    schedule, clock, running = schedule_of_demo(), Clock(minutes), 0.0
    for step in timed_steps(clock, optimizer, 3e-3, 0):
        clean, tokens = lessons.batch()
        noise, timesteps = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        noisy = schedule.add_noise(clean, noise, timesteps)
        told = unet(noisy, timesteps, encoder(tokens).last_hidden_state).sample
        loss = loss_of(told, noise, timesteps, schedule)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(factors, 1.0)
        optimizer.step()
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"lora {step} {clock.share:.1%} loss {running:.4f}", flush=True)
    return {**_as_kohya(unet, "lora_unet_"), **_as_kohya(encoder, "lora_te_")}


def _as_kohya(model: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, tensor in model.named_parameters():
        layer, is_factor, leaf = name.rpartition(".lora_")
        if not is_factor:
            continue
        # transformers has saved a text tower with and without this word.
        root = "" if prefix == "lora_unet_" or layer.startswith("text_model.") else "text_model_"
        stem = prefix + root + layer.replace(".", "_")
        named[f"{stem}.lora_{'down' if leaf.startswith('A') else 'up'}.weight"] = tensor.detach().half()
        named[f"{stem}.alpha"] = torch.tensor(float(ALPHA)).half()
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    torch.manual_seed(wanted.seed)
    with tempfile.TemporaryDirectory() as scratch:
        parts = demo_parts(Path(scratch))
        factors = train(parts, Lessons(wanted.pictures, parts, wanted.seed), wanted.minutes)
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    save_file(factors, wanted.target, metadata={"ss_base_model_version": "sd_v1", "ss_v2": "False"})
    wanted.target.chmod(0o644)  # safetensors makes it readable by its owner only


if __name__ == "__main__":
    main()
