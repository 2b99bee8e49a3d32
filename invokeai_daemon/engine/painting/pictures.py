"""Pictures that a job names, as the engine takes them: their size, their pixels, and what a lane begins with.

Called by the modes. Never touches the denoiser.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from invokeai_daemon.engine.beginning import Beginning
from invokeai_daemon.engine.noise import first_noise, seeded
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema.pictures import Init

#: Pillow's modes of pictures with one channel of more than eight bits begin with these.
DEEP = ("I", "F")
#: The largest value of a picture of sixteen bits.
DEEP_WHITE = 65535


def init_of(image: Image) -> Init:
    """What an image that is made from a picture says about it."""
    assert image.init is not None
    return image.init


def init_picture(desk: Desk, image: Image) -> PIL.Image.Image:
    """The init image at the size of the result: RGB, or RGBA where something of it is transparent."""
    picture = plain(desk.open(init_of(image).image))
    return picture.resize((image.width, image.height), PIL.Image.Resampling.LANCZOS)


def plain(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture of any mode as RGB, or as RGBA where something of it is transparent."""
    if picture.mode.startswith(DEEP):
        picture = PIL.Image.fromarray(np.clip(grey(picture) / (DEEP_WHITE / 255), 0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        if seen.getchannel("A").getextrema() != (255, 255):
            return seen
    return picture.convert("RGB")


def grey(picture: PIL.Image.Image) -> npt.NDArray[np.float32]:
    """The brightness of a picture, [height, width], in as many bits as it has."""
    return np.asarray(picture if picture.mode.startswith(DEEP) else picture.convert("L"), dtype=np.float32)


def pixels_of(picture: PIL.Image.Image) -> Tensor:
    """The colours of a picture as a VAE takes them, [1, 3, height, width], −1 … 1."""
    values = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(2 * values - 1).permute(2, 0, 1)[None]


def begun_with(desk: Desk, image: Image, pixels: Tensor) -> Beginning:
    """What a lane begins with that changes a picture: its latents under noise, as much as the init image's strength.

    As in diffusers, the seed draws the latents first, from what the VAE says about them, then the noise.
    """
    generator = seeded(image.seed)
    latents = desk.encode(pixels, image, generator)
    drawn = first_noise(image, latents.shape, generator)
    return Beginning(latents=latents, drawn=drawn, strength=init_of(image).strength)
