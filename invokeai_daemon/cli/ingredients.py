"""Ingredients: what a picture would be made from and with, in words, a line each. For `check`."""

from __future__ import annotations

from collections.abc import Iterator

from invokeai_daemon.job.plan import Image, Plan
from invokeai_daemon.job.schema import ControlNet, Mask, Outpaint, T2IAdapter
from invokeai_daemon.strict_toml import show

#: What each method of an IP-Adapter takes from its picture, where that is not all.
METHODS = {"style": "style", "style_strong": "style", "style_precise": "style", "composition": "composition"}


def ingredients(plan: Plan) -> Iterator[str]:
    """The lines about what the images of a plan have in common."""
    image = plan.images[0]
    yield from _pictures(plan, image)
    yield from _passes(plan, image)
    yield from _adapters(plan, image)


def _pictures(plan: Plan, image: Image) -> Iterator[str]:
    if image.init is not None:
        name, variant = _asked(plan, image.init.image), plan.model.variant or "normal"
        if variant == "edit":
            yield f"Changed as the prompt instructs: {name}, image_guidance_scale {image.init.image_guidance_scale:g}."
        elif variant == "depth":
            depth = image.init.depth
            source = f"the depth map {_asked(plan, depth)}" if depth else "estimated depth"
            yield f"Made from {name} and {source}: strength {image.init.strength:g}."
        else:
            own = "" if image.init.fit or image.outpaint else ", in its own size"
            yield f"Made from {name}: strength {image.init.strength:g}{own}."
    if image.mask is not None:
        yield f"Painted anew: {_painted(plan, image.mask)}."
    if image.outpaint is not None:
        yield f"Extended: {_extended(image.outpaint)}."
    if image.infill is not None:
        yield f"Transparent parts are filled first: {image.infill.method}."
    if image.seam is not None and image.seam.size:
        yield f"The border is painted again: {image.seam.size} pixels wide, {image.seam.steps} steps."
    if image.init_color is not None:
        yield f"Colours of {_asked(plan, image.init_color)}."


def _painted(plan: Plan, mask: Mask) -> str:
    if mask.text is not None:
        part = f"what looks like {show(mask.text)}"
    elif mask.image is not None:
        part = f"what is black in {_asked(plan, mask.image)}"
    else:
        part = "what is transparent in the init image"
    return f"all but {part}" if mask.invert else part


def _extended(outpaint: Outpaint) -> str:
    sides = {side: getattr(outpaint, side) for side in ("left", "right", "top", "bottom")}
    return ", ".join(
        f"{side} by {extent}{' pixels' if isinstance(extent, int) else ''}" for side, extent in sides.items() if extent
    )


def _passes(plan: Plan, image: Image) -> Iterator[str]:
    if image.hires is not None:
        yield f"In two passes: small first, then enlarged and refined with strength {image.hires.strength:g}."
    if image.refiner is not None:
        yield f"The refiner {image.refiner.model} takes over at {image.refiner.start:g} of the run."
    if image.vae is not None:
        yield f"VAE {image.vae}."


def _adapters(plan: Plan, image: Image) -> Iterator[str]:
    for lora in image.loras:
        text = f", {lora.text_encoder_weight:g} in the text encoder" if lora.text_encoder_weight is not None else ""
        yield f"LoRA {lora.name}, weight {lora.weight:g}{text}."
    for kind, controls in (("ControlNet", image.controlnets), ("T2I-Adapter", image.t2i_adapters)):
        for control in controls:
            yield _control(plan, kind, control)
    for prompter in image.ip_adapters:
        what = METHODS.get(prompter.method, "picture")
        during = _during(prompter.begin, prompter.end)
        picture = _asked(plan, prompter.image)
        yield f"IP-Adapter {prompter.name} takes the {what} of {picture}, weight {prompter.weight:g}{during}."


def _control(plan: Plan, kind: str, control: ControlNet | T2IAdapter) -> str:
    ready = control.processor in (None, "none")
    seen = "as it is" if ready else f"seen by {control.processor}"
    picture, during = _asked(plan, control.image), _during(control.begin, control.end)
    return f"{kind} {control.name} follows {picture}, {seen}, weight {control.weight:g}{during}."


def _during(begin: float, end: float) -> str:
    return "" if (begin, end) == (0, 1) else f", from {begin:g} to {end:g} of the run"


def _asked(plan: Plan, file: str) -> str:
    """A picture as the job calls it."""
    return show(plan.input(file).asked)
