"""Train the demo model: a VAE, then a UNet with its CLIP text encoder, on pictures drawn by `scenes.py`.

    python -m demo_model.train build/            # about 10 + 30 minutes on two CPU cores, minutes on a GPU
    python -m demo_model.export build/ invokeai_daemon/data/demo.safetensors

The work is bounded by time, not by steps: the learning rate follows the share of the minutes that have passed.
An interrupted run continues from the last saved state when it is started again with the same folder.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo_model.scenes import CAPTIONS, Scene, draw, split
from invokeai_daemon.models.tokenizer import write_clip_tokenizer

#: Latents are brought to this scale so that the checkpoint needs no configuration of its own (Stable Diffusion 1).
SCALING_FACTOR = 0.18215
TEXT_WIDTH = 64
#: Four channels of the finest level share a norm, as in Stable Diffusion's VAE. With one channel each (32 groups) the
#: last norm would erase the mean colour, and the decoder would bring it back with bright spots.
NORM_GROUPS = 8
#: Loss weights are capped at this signal-to-noise ratio (Hang et al. 2023, "Min-SNR weighting").
MIN_SNR_GAMMA = 5.0
EMPTY_CAPTION_SHARE = 0.1
SAVE_EVERY_SECONDS = 240


def new_vae() -> AutoencoderKL:
    widths = (32, 32, 64, 64)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=NORM_GROUPS,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(32, 64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=NORM_GROUPS,
    )


def new_text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=TEXT_WIDTH // 64,
            projection_dim=TEXT_WIDTH,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


@dataclass
class Pictures:
    """The training set in memory: `pixels` [n, 3, 64, 64] in −1…1, and the scene of each."""

    pixels: Tensor
    scenes: list[Scene]


def draw_pictures(count: int, seed: int) -> Pictures:
    rng = random.Random(seed)
    train, _ = split()
    scenes = [train[i % len(train)] for i in range(count)]
    pixels = np.stack([np.asarray(draw(scene, rng)) for scene in scenes])
    return Pictures(torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1), scenes)


class Clock:
    """How far a stage has come, counting the time spent before an interruption; sets the learning rate."""

    def __init__(self, minutes: float, spent: float = 0.0) -> None:
        self.seconds, self.started, self.spent_before = minutes * 60, time.monotonic(), spent

    @property
    def spent(self) -> float:
        return self.spent_before + time.monotonic() - self.started

    @property
    def share(self) -> float:
        return min(1.0, self.spent / self.seconds)

    def learning_rate(self, peak: float, warm_up: float = 0.02) -> float:
        """Linear warm-up, then a cosine down to one hundredth of the peak."""
        if self.share < warm_up:
            return peak * (0.02 + 0.98 * self.share / warm_up)
        done = (self.share - warm_up) / (1 - warm_up)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def timed_steps(clock: Clock, optimizer: torch.optim.Optimizer, peak: float, first: int) -> Iterator[int]:
    step = first
    while clock.share < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = clock.learning_rate(peak)
        yield step
        step += 1


def train_vae(folder: Path, pictures: Pictures, minutes: float, device: torch.device) -> AutoencoderKL:
    """L1 and edge reconstruction with a light KL term; afterwards the latents are scaled to unit deviation."""
    done = folder / "vae"
    if done.exists():
        return AutoencoderKL.from_pretrained(done).to(device)
    vae = new_vae().to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    clock = Clock(minutes)
    for step in timed_steps(clock, optimizer, 1.2e-3, 0):
        batch = pictures.pixels[torch.randint(len(pictures.pixels), (8,))].to(device)
        posterior = vae.encode(batch).latent_dist
        restored = vae.decode(posterior.sample()).sample
        loss = F.l1_loss(restored, batch) + _edge_loss(restored, batch) + 1e-6 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"vae {step} {clock.share:.0%} loss {loss.item():.4f}", flush=True)
    _scale_latents(vae, pictures, device)
    vae.save_pretrained(done)
    return vae


def _edge_loss(restored: Tensor, batch: Tensor) -> Tensor:
    """L1 of the horizontal and vertical differences: outlines matter more than their area says."""
    return F.l1_loss(restored.diff(dim=-1), batch.diff(dim=-1)) + F.l1_loss(restored.diff(dim=-2), batch.diff(dim=-2))


@torch.no_grad()
def _scale_latents(vae: AutoencoderKL, pictures: Pictures, device: torch.device) -> None:
    """Fold the latents' deviation into the convolutions around them, so that `SCALING_FACTOR` fits."""
    vae.eval()
    means = torch.cat([vae.encode(part.to(device)).latent_dist.mean for part in pictures.pixels[:2048].split(64)])
    factor = 1 / (SCALING_FACTOR * means.std().item())
    half = vae.config.latent_channels
    vae.quant_conv.weight[:half] *= factor
    vae.quant_conv.bias[:half] *= factor
    vae.quant_conv.bias[half:] += 2 * math.log(factor)
    vae.post_quant_conv.weight /= factor


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Pictures, device: torch.device) -> Tensor:
    """The scaled latents of every picture, [n, 4, 8, 8]."""
    vae.eval()
    parts = [vae.encode(part.to(device)).latent_dist.mean for part in pictures.pixels.split(64)]
    return torch.cat(parts) * SCALING_FACTOR


class Denoiser(nn.Module):
    """What the second stage trains together: the UNet and the text encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = new_unet()
        self.text_encoder = new_text_encoder()

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        unique, inverse = tokens.unique(dim=0, return_inverse=True)
        context = self.text_encoder(unique).last_hidden_state[inverse]
        return self.unet(noisy, timesteps, context).sample


def train_denoiser(
    folder: Path, latents: Tensor, scenes: list[Scene], minutes: float, batch: int, device: torch.device
) -> Denoiser:
    """Noise prediction with Min-SNR weights, empty captions for guidance, and an averaged copy that is kept."""
    model = Denoiser().to(device)
    # The plain processor: attention heads this narrow are slow in the fused CPU kernels.
    model.unet.set_attn_processor(AttnProcessor())
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    first, clock = 0, Clock(minutes)
    saved = folder / "denoiser.pt"
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, clock = state["step"], Clock(minutes, state["spent"])
    tokens, empty = caption_tokens(CLIPTokenizer.from_pretrained(folder / "tokenizer"), device)
    noise_schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alphas = noise_schedule.alphas_cumprod.to(device)
    weights = (MIN_SNR_GAMMA * (1 - alphas) / alphas).clamp(max=1.0)
    rows = torch.tensor([SCENE_INDEX[scene] for scene in scenes], device=device)
    saved_at, running = time.monotonic(), 0.0
    for step in timed_steps(clock, optimizer, 1.5e-3, first):
        chosen = torch.randint(len(latents), (batch,), device=device)
        captions = tokens[rows[chosen], torch.randint(len(CAPTIONS), (batch,), device=device)]
        captions = torch.where(torch.rand(batch, 1, device=device) < EMPTY_CAPTION_SHARE, empty, captions)
        clean = latents[chosen]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(1000, (batch,), device=device)
        prediction = model(noise_schedule.add_noise(clean, noise, timesteps), timesteps, captions)
        loss = (F.mse_loss(prediction, noise, reduction="none").mean(dim=(1, 2, 3)) * weights[timesteps]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _follow(average, model, decay=min(0.9995, (step + 1) / (step + 20)))
        running = loss.item() if step == first else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"unet {step} {clock.share:.1%} loss {running:.4f}", flush=True)
        if time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
            _save(saved, model, average, optimizer, step + 1, clock)
            saved_at = time.monotonic()
    average.unet.save_pretrained(folder / "unet")
    average.text_encoder.save_pretrained(folder / "text_encoder")
    return average


def _save(
    path: Path, model: Denoiser, average: Denoiser, optimizer: torch.optim.Optimizer, step: int, clock: Clock
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "spent": clock.spent,
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


TRAIN_SCENES = split()[0]
SCENE_INDEX = {scene: index for index, scene in enumerate(TRAIN_SCENES)}


def caption_tokens(tokenizer: CLIPTokenizer, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of every scene in every phrasing, [scenes, phrasings, 77], and those of the empty caption, [77]."""
    texts = [scene.caption(template) for scene in TRAIN_SCENES for template in CAPTIONS]
    encoded = tokenizer([*texts, ""], padding="max_length", max_length=77, return_tensors="pt").input_ids.to(device)
    return encoded[:-1].view(len(TRAIN_SCENES), len(CAPTIONS), 77), encoded[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vae-minutes", type=float, default=10)
    parser.add_argument("--unet-minutes", type=float, default=30)
    parser.add_argument("--pictures", type=int, default=9800)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    wanted.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(wanted.seed)
    device = torch.device(wanted.device)
    write_clip_tokenizer(wanted.folder / "tokenizer")
    pictures = draw_pictures(wanted.pictures, wanted.seed)
    vae = train_vae(wanted.folder, pictures, wanted.vae_minutes, device)
    latents = encode_pictures(vae, pictures, device)
    print(f"latents: deviation {latents.std().item():.3f}", flush=True)
    train_denoiser(wanted.folder, latents, pictures.scenes, wanted.unet_minutes, wanted.batch, device)


if __name__ == "__main__":
    main()
