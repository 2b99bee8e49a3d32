"""Train a small ControlNet that lets the demo model follow outlines, and write it as a diffusers folder.

    OMP_NUM_THREADS=1 python -m demo_model.train_control tests/demo_model/fixtures/outlines      # 15 minutes

It sees the outline of a scene as the processor `canny` draws it, and prompts that say all, the colours, or nothing.
Of the way down of the demo model's UNet it keeps what is no attention: that is all that outlines need, and small.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from demo_model.scenes import CAPTIONS, Scene, paint, split
from demo_model.train import NORM_GROUPS, SCALING_FACTOR, TEXT_WIDTH, Clock, timed_steps
from demo_model.train_lora import BATCH, demo_parts, loss_of, schedule_of_demo

#: Prompts that leave the shape to the outline.
COLOURS_ONLY = ("{colour} on a {background} background", "{colour}, {background} background", "")
#: How often the prompt leaves it.
SHAPELESS_SHARE = 0.8


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet whose layers begin as those of the UNet."""
    control = ControlNetModel(
        in_channels=4,
        block_out_channels=unet.config.block_out_channels,
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        layers_per_block=unet.config.layers_per_block,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=NORM_GROUPS,
        conditioning_embedding_out_channels=(8, 16, 32, 32),
    )
    known = {name: tensor for name, tensor in unet.state_dict().items() if name in control.state_dict()}
    control.load_state_dict(known, strict=False)
    return control


def outline(picture: Image.Image, low: int = 100, high: int = 200) -> Image.Image:
    """The edges of a picture, white on black."""
    return Image.fromarray(cv2.Canny(np.asarray(picture), low, high)).convert("RGB")


def placed(scene: Scene, rng: random.Random) -> Image.Image:
    """A picture of a scene that lies elsewhere, and is larger or smaller, than the demo model would draw it."""
    radius = rng.uniform(0.28, 0.42)
    return paint(scene, (rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.58)), radius, rng.uniform(-8, 8))


class Lessons:
    """Drawn scenes with their outlines and prompts."""

    def __init__(self, count: int, parts: Path, seed: int) -> None:
        rng, scenes = random.Random(seed), split()[0]
        shown = [scenes[number % len(scenes)] for number in range(count)]
        pictures = [placed(scene, rng) for scene in shown]
        outlines = [outline(picture, low, 2 * low) for picture in pictures for low in [rng.choice((50, 100, 150))]]
        self.outlines = _pixels(outlines) / 255
        self.latents = _encoded(parts / "vae", _pixels(pictures) / 127.5 - 1)
        templates = [COLOURS_ONLY if rng.random() < SHAPELESS_SHARE else CAPTIONS for _ in shown]
        captions = [scene.caption(rng.choice(some)) for scene, some in zip(shown, templates, strict=True)]
        self.texts, self.places = _read(parts, captions)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, outlines and texts of some lessons."""
        chosen = torch.randint(len(self.latents), (BATCH,))
        return self.latents[chosen], self.outlines[chosen], self.texts[self.places[chosen]]


def _pixels(pictures: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float()


@torch.no_grad()
def _encoded(folder: Path, pixels: Tensor) -> Tensor:
    vae = AutoencoderKL.from_pretrained(folder).eval()
    return torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(64)]) * SCALING_FACTOR


@torch.no_grad()
def _read(parts: Path, captions: list[str]) -> tuple[Tensor, Tensor]:
    """What the text encoder makes of each caption once, and where that of each lesson stands."""
    tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(parts / "text_encoder").eval()
    several = sorted(set(captions))
    tokens = tokenizer(several, padding="max_length", max_length=77, return_tensors="pt").input_ids
    states = torch.cat([encoder(part).last_hidden_state for part in tokens.split(64)])
    return states, torch.tensor([several.index(caption) for caption in captions])


def train(parts: Path, lessons: Lessons, minutes: float) -> ControlNetModel:
    """Noise prediction of the frozen UNet, which is told what the ControlNet makes of the outlines."""
    unet = UNet2DConditionModel.from_pretrained(parts / "unet").requires_grad_(False).eval()
    control = new_controlnet(unet).train()
    optimizer = torch.optim.AdamW(control.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule, clock, running = schedule_of_demo(), Clock(minutes), 0.0
    for step in timed_steps(clock, optimizer, 1.2e-3, 0):
        clean, outlines, texts = lessons.batch()
        noise, timesteps = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        noisy = schedule.add_noise(clean, noise, timesteps)
        down, middle = control(noisy, timesteps, texts, outlines, return_dict=False)
        told = unet(
            noisy, timesteps, texts, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        loss = loss_of(told, noise, timesteps, schedule)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(control.parameters(), 1.0)
        optimizer.step()
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"controlnet {step} {clock.share:.1%} loss {running:.4f}", flush=True)
    return control.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    torch.manual_seed(wanted.seed)
    with tempfile.TemporaryDirectory() as scratch:
        parts = demo_parts(Path(scratch))
        trained = train(parts, Lessons(wanted.pictures, parts, wanted.seed), wanted.minutes)
    # Eight bits a number are enough for it, and it is to be small.
    trained.to(torch.float8_e4m3fn).save_pretrained(wanted.folder)


if __name__ == "__main__":
    main()
