"""The switches of 2.3's command line, as a table: what each sets in a job, and what its values are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The sides of a picture, as outcropping names them.
SIDES = ("top", "left", "bottom", "right")


def pairs(text: str) -> list[list[int | float]]:
    """`seed:weight,seed:weight` as a job lists them. Raises ValueError."""
    return [[int(seed), float(weight)] for seed, _, weight in (pair.partition(":") for pair in text.split(","))]


def axes(text: str) -> str:
    """`x`, `y` or both, with or without a comma. Raises ValueError."""
    letters = text.replace(",", "").casefold()
    if not letters or set(letters) - {"x", "y"}:
        raise ValueError(text)
    return letters


def picture(path: str) -> str:
    """A path. Raises ValueError for `-1`, which means the last result of a session."""
    if path.startswith("-"):
        raise ValueError(path)
    return path


def masked_text(values: Sequence[str]) -> dict[str, Any]:
    """`hair 0.5` as a mask. Raises ValueError."""
    text, *threshold = values
    return {"text": text, **({"threshold": float(threshold[0])} if threshold else {})}


def sides(values: Sequence[str]) -> dict[str, int]:
    """`top 64 left 100` as the sides of a canvas; as in 2.3 pixels are rounded up to 64. Raises ValueError."""
    if len(values) % 2 or set(values[::2]) - {*SIDES}:
        raise ValueError(" ".join(values))
    return {side: -(-int(pixels) // 64) * 64 for side, pixels in zip(values[::2], values[1::2], strict=True)}


#: Kinds that take all values of a switch at once, and give a table.
WHOLE = (masked_text, sides)


@dataclass(frozen=True)
class Switch:
    """One switch of the command line of 2.3."""

    names: tuple[str, ...]
    #: The key of a job that it sets, dotted within a table; None when a job has no such thing.
    key: str | None = None
    #: What its value is; None for a switch without one.
    kind: Callable[[Any], Any] | None = None
    #: For a switch without a key: a noun for the message; empty when it does not change the picture.
    what: str = ""
    #: For a switch without a key: values that ask for nothing.
    off: tuple[str, ...] = ()
    #: The most values that may follow.
    values: int = 1


SWITCHES = (
    Switch(("--prompt",), "prompt", str),
    Switch(("--negative_prompt",), "negative_prompt", str),
    Switch(("-s", "--steps"), "steps", int),
    Switch(("-S", "--seed"), "seed", int),
    Switch(("-n", "--iterations"), "iterations", int),
    Switch(("-W", "--width"), "width", int),
    Switch(("-H", "--height"), "height", int),
    Switch(("-C", "--cfg_scale"), "cfg_scale", float),
    Switch(("-A", "-m", "--sampler"), "scheduler", str),
    Switch(("--threshold",), "threshold", float),
    Switch(("--perlin",), "perlin", float),
    Switch(("--h_symmetry_time_pct",), "h_symmetry_time_pct", float),
    Switch(("--v_symmetry_time_pct",), "v_symmetry_time_pct", float),
    Switch(("-v", "--variation_amount"), "variation.amount", float),
    Switch(("-V", "--with_variations"), "variation.with", pairs),
    Switch(("--variation_seed",), "variation.seed", int),
    Switch(("--seamless",), "seamless"),
    Switch(("--seamless_axes",), "seamless_axes", axes),
    Switch(("--save_intermediates",), "save_intermediates", int),
    Switch(("-t", "--log_tokenization"), "log_tokenization"),
    Switch(("-x", "--skip_normalize"), "skip_normalize"),
    # Pictures from pictures.
    Switch(("-I", "--init_img"), "init.image", picture),
    Switch(("-f", "--strength"), "strength", float),
    Switch(("-T", "-F", "-fit", "--fit"), "fit"),
    Switch(("--init_color",), "init_color", picture),
    Switch(("-M", "--init_mask"), "mask.image", picture),
    Switch(("-tm", "--text_mask"), "mask", masked_text, values=2),
    Switch(("--invert_mask",), "mask.invert"),
    Switch(("--force_outpaint",), "force_outpaint"),
    Switch(("-c", "--outcrop"), "outpaint", sides, values=8),
    Switch(("--seam_size",), "seam.size", int),
    Switch(("--seam_blur",), "seam.blur", int),
    Switch(("--seam_strength",), "seam.strength", float),
    Switch(("--seam_steps",), "seam.steps", int),
    Switch(("--tile_size",), "infill.tile_size", int),
    Switch(("--hires_fix",), "hires_fix"),
    # 2.3 does not have these.
    Switch(("--cfg_rescale_multiplier",), "cfg_rescale_multiplier", float),
    Switch(("--clip_skip",), "clip_skip", int),
    Switch(("--denoising_start",), "denoising_start", float),
    Switch(("--denoising_end",), "denoising_end", float),
    Switch(("--vae",), "vae", str),
    Switch(("--guidance",), "guidance", float),
    # These do not change the picture.
    Switch(("-i", "--individual")),
    Switch(("--no-grid",)),
    Switch(("--use_mps_noise",)),
    Switch(("--karras_max",), kind=int),
    Switch(("-z", "--png_compression"), kind=int),
    # These would.
    Switch(("--fnformat",), kind=str, what="file names of one line"),
    Switch(("-o", "--outdir"), kind=str, what="other folders than outputs/"),
    Switch(("-g", "--grid"), what="grids"),
    Switch(("-r", "--inpaint_replace"), kind=float, what="inpaint_replace", off=("0", "0.0")),
    Switch(("--new_prompt",), kind=str, what="postprocessing"),
    Switch(("-ft", "--facetool"), kind=str, off=("gfpgan", "codeformer"), what="face restoration"),
    Switch(("-G", "--facetool_strength", "--gfpgan_strength"), kind=float, what="face restoration", off=("0", "0.0")),
    Switch(("-cf", "--codeformer_fidelity"), kind=float, what="face restoration"),
    Switch(("-U", "--upscale"), kind=float, what="upscaling", values=2),
    Switch(("-save_orig", "--save_original"), what="postprocessing"),
    Switch(("--embiggen",), kind=float, what="embiggening", values=3),
    Switch(("--embiggen_tiles",), kind=int, what="embiggening", values=1000),
    Switch(("--embiggen_strength",), kind=float, what="embiggening"),
    Switch(
        ("-D", "--out_direction"),
        kind=str,
        what="shifting a picture, where --outcrop extends it",
        values=2,
    ),
)
#: What may follow a switch that is not known, and is passed over with it.
ANY_VALUE = Switch((), values=1)
#: What a value was expected to be.
NOUNS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    pairs: "a list like 42:0.3,43:0.1",
    axes: "x, y or x,y",
    picture: "the path of a picture; a job does not know earlier results",
    masked_text: "words and a number, like hair 0.5",
    sides: "a list of sides and pixels, like top 64 left 128",
}
BY_NAME = {name: switch for switch in SWITCHES for name in switch.names}
