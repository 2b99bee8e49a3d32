"""Train a new word for the demo model, and write it as AUTOMATIC1111's safetensors files are.

    OMP_NUM_THREADS=1 python -m demo_model.train_embedding tests/demo_model/fixtures/sun.safetensors      # 5 minutes

The word means a yellow circle. Nothing of the model changes; all that is learned are the vectors that stand for the
word, which the captions say in place of colour and shape.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from demo_model.scenes import CAPTIONS, COLOURS, Scene
from demo_model.train import Clock, timed_steps
from demo_model.train_lora import BATCH, demo_parts, latents_of, loss_of, schedule_of_demo

SHAPE, COLOUR = "circle", "yellow"
#: What the captions say for the word, a token for each of its vectors, and what these begin as.
STAND_INS, FIRST = ("!", "#"), ("shape", "picture")


class Lessons:
    """Pictures of the word on every background, and captions that say it."""

    def __init__(self, count: int, parts: Path, seed: int) -> None:
        rng = random.Random(seed)
        shown = [Scene(SHAPE, COLOUR, rng.choice([name for name in COLOURS if name != COLOUR])) for _ in range(count)]
        self.latents = latents_of(shown, parts, rng)
        captions = [
            rng.choice(CAPTIONS).format(colour=STAND_INS[0], shape=STAND_INS[1], background=scene.background)
            for scene in shown
        ]
        tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer")
        self.tokens = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
        self.stand_ins = _ids(tokenizer, STAND_INS)
        self.first = _ids(tokenizer, FIRST)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Latents and tokens of some lessons."""
        chosen = torch.randint(len(self.latents), (BATCH,))
        return self.latents[chosen], self.tokens[chosen]


def _ids(tokenizer: CLIPTokenizer, words: tuple[str, ...]) -> list[int]:
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    assert all(len(each) == 1 for each in ids), "words of one token each are wanted"
    return [each for several in ids for each in several]


def train(parts: Path, lessons: Lessons, minutes: float) -> Tensor:
    """The vectors of the word, [n, width]."""
    unet = UNet2DConditionModel.from_pretrained(parts / "unet").requires_grad_(False)
    # The plain processor: attention heads this narrow are slow in the fused CPU kernels.
    unet.set_attn_processor(AttnProcessor())
    encoder = CLIPTextModel.from_pretrained(parts / "text_encoder").requires_grad_(False)
    known = encoder.get_input_embeddings()
    vectors = torch.nn.Parameter(known.weight[lessons.first].clone())

    def put_in(module: torch.nn.Module, inputs: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        for token, vector in zip(lessons.stand_ins, vectors, strict=True):
            embedded = torch.where((inputs[0] == token)[..., None], vector, embedded)
        return embedded

    known.register_forward_hook(put_in)
    optimizer = torch.optim.AdamW([vectors], lr=1e-3, weight_decay=0.0)
    schedule, clock, running = schedule_of_demo(), Clock(minutes), 0.0
    for step in timed_steps(clock, optimizer, 5e-3, 0):
        clean, tokens = lessons.batch()
        noise, timesteps = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        told = unet(schedule.add_noise(clean, noise, timesteps), timesteps, encoder(tokens).last_hidden_state).sample
        loss = loss_of(told, noise, timesteps, schedule)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 0:
            print(f"embedding {step} {clock.share:.1%} loss {running:.4f}", flush=True)
    return vectors.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    torch.manual_seed(wanted.seed)
    with tempfile.TemporaryDirectory() as scratch:
        parts = demo_parts(Path(scratch))
        vectors = train(parts, Lessons(wanted.pictures, parts, wanted.seed), wanted.minutes)
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": vectors}, wanted.target)
    wanted.target.chmod(0o644)  # safetensors makes it readable by its owner only


if __name__ == "__main__":
    main()
