"""Text masks: where a picture shows what words say, found by CLIPSeg. Called by the modes that paint into pictures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from invokeai_daemon.engine.loading.parts import being_read
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import ModelRef

#: The side of the square that the model looks at.
SIDE = 352
#: What the colours of the square are centred on and divided by: ImageNet's, which CLIPSeg was trained with.
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: One of these holds the words that the model knows.
TOKENIZERS = ("vocab.json", "tokenizer.json")

Heat = npt.NDArray[np.float32]


def described(model: ModelRef, picture: PIL.Image.Image, words: str, threshold: float) -> PIL.Image.Image:
    """A mask that paints what the words describe, L, of the picture's size. Raises ModelError."""
    seen = picture.convert("RGB")
    return mask_of_heat(_heat(model, seen.tobytes(), seen.size, words), picture.size, threshold)


def mask_of_heat(heat: Heat, size: tuple[int, int], threshold: float) -> PIL.Image.Image:
    """What is at least as warm as the threshold is black, which is painted; heat lies over a square, 0 … 1."""
    width, height = size
    square = PIL.Image.fromarray(np.where(heat < threshold, np.uint8(255), np.uint8(0)))
    longer = max(width, height)
    return square.resize((longer, longer), PIL.Image.Resampling.BILINEAR).crop((0, 0, width, height))


def squared(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture scaled to fit into the model's square, in its upper left corner, on black."""
    width, height = (max(1, side * SIDE // max(picture.size)) for side in picture.size)
    square = PIL.Image.new("RGB", (SIDE, SIDE))
    square.paste(picture.convert("RGB").resize((width, height), PIL.Image.Resampling.LANCZOS))
    return square


@lru_cache(maxsize=8)
def _heat(model: ModelRef, pixels: bytes, size: tuple[int, int], words: str) -> Heat:
    """Where the model sees the words, 0 … 1 over its square. The images of a job have this in common."""
    from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

    folder = Path(model.path)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelError(f'model "{model.name}": {folder} has no tokenizer. Get the whole folder of the model again.')
    with being_read("model", model):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        # Not kept: it is needed once for each picture, and as large as the rest of a small model.
        clipseg = CLIPSegForImageSegmentation.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    square = np.asarray(squared(PIL.Image.frombytes("RGB", size, pixels)), np.float32) / 255
    values = torch.from_numpy((square - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32))
    told = tokenizer([words], padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = clipseg(**told, pixel_values=values.permute(2, 0, 1)[None]).logits
    return np.asarray(torch.sigmoid(logits).reshape(logits.shape[-2:]).numpy(), np.float32)
