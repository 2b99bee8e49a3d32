"""Checks: what in a job cannot go together, or not with its model. Called by the planner; looks nothing up itself.

Values are checked one by one where they are read; here are the rules between them, as tables where they are alike. A
key that could have no effect at all is a mistake too: nothing that somebody asks for is left out silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from invokeai_daemon.job.fitting import Size, is_alike
from invokeai_daemon.job.schedulers import FLOW_BASES, schedulers_of
from invokeai_daemon.job.schema import Init, Job
from invokeai_daemon.strict_toml import show


@dataclass(frozen=True)
class Circumstances:
    """What a job was found to be made with."""

    #: Of the main model: its name, its base and its variant.
    model: str
    base: str
    variant: str = "normal"
    #: The model has a part that estimates depth.
    sees_depth: bool = False
    #: Path that the job gives -> size of the picture, upright; those that were not found are not there.
    sizes: Mapping[str, Size] = field(default_factory=dict)
    #: The init image has, or may have, transparent parts.
    is_transparent: bool = False
    #: The prompt swaps a part of itself for another.
    swaps: bool = False

    @property
    def kind(self) -> str:
        return " ".join(word for word in (self.base, self.variant) if word != "normal")


@dataclass(frozen=True)
class Fault:
    """Something that cannot be."""

    key: str
    message: str
    hint: str


_WITH_UNETS = frozenset({"sd-1", "sd-2", "sdxl"})
#: Keys that only models of some bases can serve, and what the others lack.
ONLY_FOR: Mapping[str, tuple[frozenset[str], str]] = MappingProxyType(
    {
        "style_prompt": (frozenset({"sdxl"}), "only sdxl models have a second text encoder to read it"),
        "negative_style_prompt": (frozenset({"sdxl"}), "only sdxl models have a second text encoder to read it"),
        "refiner": (frozenset({"sdxl"}), "the refiner goes on with pictures of sdxl models"),
        "guidance": (frozenset({"flux"}), "only flux models were distilled for guidance"),
        "controlnets": (_WITH_UNETS, "ControlNets are attached to sd-1, sd-2 and sdxl models"),
        "t2i_adapters": (_WITH_UNETS, "T2I-Adapters are attached to sd-1, sd-2 and sdxl models"),
        "ip_adapters": (_WITH_UNETS, "IP-Adapters are attached to sd-1, sd-2 and sdxl models"),
    }
)
#: Keys that change an init image, and what they do to it.
NEED_INIT: Mapping[str, str] = MappingProxyType(
    {
        "mask": "says what is painted anew of an init image",
        "outpaint": "extends an init image",
        "infill": "fills the transparent parts of an init image",
        "seam": "paints the border between an init image and what is new",
    }
)
#: Variants that change a picture as a whole.
_OF_WHOLE_PICTURES = frozenset({"edit", "depth"})


def faults(job: Job, found: Circumstances) -> Iterator[Fault]:
    """All that cannot be, in no order."""
    yield from _of_bases(job, found)
    yield from _of_flow(job, found)
    if job.init is None:
        yield from _without_init(job)
    else:
        yield from _of_init(job, job.init, found)
        yield from _of_mask(job, job.init, found)


def _of_bases(job: Job, found: Circumstances) -> Iterator[Fault]:
    for key, (bases, why) in ONLY_FOR.items():
        if getattr(job, key) not in (None, []) and found.base not in bases:
            yield Fault(key, f"{why}; {found.model} is a {found.kind} model.", "Remove it, or use another model.")


def _of_flow(job: Job, found: Circumstances) -> Iterator[Fault]:
    """What models whose noise flows in a straight line cannot follow."""
    known = schedulers_of(found.base)
    if job.scheduler is not None and job.scheduler not in known:
        message = f"{show(job.scheduler)} cannot follow the flow of {found.model}, a {found.kind} model."
        yield Fault("scheduler", message, f"Use {', '.join(known)}.")
    if job.clip_skip and found.base == "flux":
        message = f"{found.model} takes of CLIP what it says at its end, and no layer before."
        yield Fault("clip_skip", message, "Remove it.")
    if found.swaps and (found.base in FLOW_BASES or found.variant == "edit"):
        message = f"{found.model}, a {found.kind} model, knows no .swap(…); ordinary sd-1, sd-2 and sdxl models do."
        yield Fault("prompt", message, "Write one of the two, or use another model.")


def _without_init(job: Job) -> Iterator[Fault]:
    for key, deed in NEED_INIT.items():
        if getattr(job, key) is not None:
            yield Fault(key, f"it {deed}, and there is none.", "Add [init] with an image, or remove this.")


def _of_init(job: Job, init: Init, found: Circumstances) -> Iterator[Fault]:
    if init.depth is not None and found.variant != "depth":
        message = f"only depth models look at a depth map; {found.model} is a {found.kind} model."
        yield Fault("init.depth", message, "Remove it, or use a depth model.")
    elif init.depth is None and found.variant == "depth" and not found.sees_depth:
        message = f"{found.model} needs a depth map, and has no part that estimates depth."
        yield Fault("init", message, "Give a depth map, bright is near, with depth under [init].")
    usual = Init.model_fields["image_guidance_scale"].default
    if init.image_guidance_scale != usual and found.variant != "edit":
        message = f"only models that edit by instruction heed it; {found.model} is a {found.kind} model."
        yield Fault("init.image_guidance_scale", message, "Remove it, or use an edit model.")
    if init.color_match and (job.mask is not None or job.outpaint is not None or found.is_transparent):
        message = "what is kept of the init image has its colours, and the mask brings what is painted to them."
        yield Fault("init.color_match", message, "Remove it; color_correct under [mask] is on.")
    if job.denoising_start and init.strength != Init.model_fields["strength"].default:
        message = "it says where the run begins, and so does the strength of the init image."
        yield Fault("denoising_start", message, "Keep one of them.")
    if init.depth is not None:
        yield from _of_shape(init, init.depth, "init.depth", "depth map", found)


def _of_mask(job: Job, init: Init, found: Circumstances) -> Iterator[Fault]:
    for key in ("mask", "outpaint"):
        if getattr(job, key) is not None and found.variant in _OF_WHOLE_PICTURES:
            message = f"{found.model} is a {found.kind} model, which changes pictures as a whole."
            yield Fault(key, message, "Remove it, or use another model.")
    mask, outpaint = job.mask, job.outpaint
    if mask is not None and mask.image is not None:
        yield from _of_shape(init, mask.image, "mask.image", "mask", found)
    if outpaint is not None and not any(_grows(each) for each in vars(outpaint).values()):
        yield Fault("outpaint", "no side is extended.", 'Say how far: right = 128, or right = "25%".')
    if job.infill is not None and job.infill.method == "lama":
        message = '"lama" fills through a network that this program has not yet.'
        yield Fault("infill.method", message, "Use patchmatch, cv2, tile, mosaic or solid.")
    if init.image not in found.sizes or found.is_transparent or outpaint is not None:
        return
    if mask is not None and mask.image is None and mask.text is None:
        hint = "Name an image or a text, or make a part of the init image transparent."
        yield Fault("mask", "it paints nothing: the init image has no transparent part.", hint)
    if mask is None:
        for key in ("infill", "seam"):
            if getattr(job, key) is not None:
                message = "nothing is painted beside the init image, which has no transparent part."
                yield Fault(key, message, "Remove it, or add [mask] or [outpaint].")


def _of_shape(init: Init, picture: str, key: str, what: str, found: Circumstances) -> Iterator[Fault]:
    whole, part = found.sizes.get(init.image), found.sizes.get(picture)
    if whole and part and not is_alike(part, whole):
        sizes = f"{part[0]} × {part[1]}, the init image {whole[0]} × {whole[1]}"
        yield Fault(key, f"the {what} has {sizes}.", f"Make the {what} of the shape of the init image.")


def _grows(extent: int | str) -> bool:
    return extent > 0 if isinstance(extent, int) else float(extent.rstrip("% ")) > 0
