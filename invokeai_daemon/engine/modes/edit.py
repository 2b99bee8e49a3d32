"""Edit: the init image changed as the prompt instructs, by models that see the picture beside the latents (pix2pix)."""

from __future__ import annotations

import torch

from invokeai_daemon.engine.beginning import Beginning
from invokeai_daemon.engine.modes.refiner import finished
from invokeai_daemon.engine.painting.pictures import init_of, init_picture, pixels_of
from invokeai_daemon.engine.passes import Desk, Mode
from invokeai_daemon.job.plan import Image


def edit(desk: Desk, image: Image) -> Mode:
    """One pass from noise, beside the picture. Guidance compares with a row that does not see it."""
    latents = desk.encode(pixels_of(init_picture(desk, image)), image)
    # These models were trained with latents as the VAE makes them.
    seen = desk.vae.unscaled(latents)
    beside = torch.cat([torch.zeros_like(seen), seen, seen])
    beginning = Beginning(beside=beside, picture_scale=init_of(image).image_guidance_scale)
    return (yield from finished(desk, image, beginning))
