"""The options of `submit`: InvokeAI's names, in groups, and the job that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

PICTURE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Option(click.Option):
    """An option that `--help` lists in a group."""

    def __init__(self, *names: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group


class Grouped(click.Command):
    """A command whose options are listed in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _option(group: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    return click.option(*names, cls=Option, group=group, **settings)


_PICTURE, _RUN, _FROM, _WITH = "The picture", "Noise and steps", "From another picture", "With"

#: In the order of `--help`.
_OPTIONS = (
    _option(_PICTURE, "-m", "--model", help="A model's name, a unique start of it, or its hash."),
    _option(_PICTURE, "--negative", "--negative-prompt", "--negative_prompt", "negative_prompt", metavar="TEXT"),
    _option(_PICTURE, "--prompt-syntax", type=click.Choice(["invokeai", "a1111", "plain"])),
    _option(_PICTURE, "-W", "--width", type=int, help="Pixels."),
    _option(_PICTURE, "-H", "--height", type=int, help="Pixels."),
    _option(_PICTURE, "-s", "--steps", type=int),
    _option(_PICTURE, "-S", "--seed", type=int),
    _option(_PICTURE, "-C", "--cfg-scale", "--cfg_scale", "cfg_scale", type=float),
    _option(_PICTURE, "-A", "--scheduler", "--sampler", "scheduler", metavar="NAME"),
    _option(_PICTURE, "-n", "--iterations", type=int, help="How many pictures: seeds SEED, SEED+1, …"),
    _option(_RUN, "--guidance", type=float, help="Of FLUX models that were distilled for it."),
    _option(_RUN, "--clip-skip", "--clip_skip", "clip_skip", type=int),
    _option(_RUN, "--perlin", type=float, help="Share of Perlin noise, 0 to 1."),
    _option(_RUN, "--threshold", type=float, help="Latents beyond it are drawn anew."),
    _option(_RUN, "-v", "--variation-amount", "--variation_amount", "variation_amount", type=float),
    _option(_RUN, "-V", "--with-variations", "--with_variations", "with_variations", metavar="SEED:W,…"),
    _option(_RUN, "--seamless", is_flag=True, default=None, help="Opposite edges meet."),
    _option(_RUN, "--seamless-axes", "--seamless_axes", "seamless_axes", metavar="x|y", help="Only these."),
    _option(_RUN, "--h-symmetry-time-pct", "--h_symmetry_time_pct", "h_symmetry_time_pct", type=float),
    _option(_RUN, "--v-symmetry-time-pct", "--v_symmetry_time_pct", "v_symmetry_time_pct", type=float),
    _option(_RUN, "--hires-fix", "--hires_fix", "hires_fix", is_flag=True, default=None, help="Two passes."),
    _option(_FROM, "-I", "--init-img", "--init_img", "init_img", type=PICTURE, help="Start from this picture."),
    _option(_FROM, "-f", "--strength", type=float, help="How much is made anew, 0 to 1 (of -I and --hires-fix)."),
    _option(_FROM, "--fit/--no-fit", default=None, help="Scale it to fit into -W and -H, or keep its size."),
    _option(_FROM, "-M", "--init-mask", "--init_mask", "init_mask", type=PICTURE, help="Black is painted anew."),
    _option(_FROM, "-tm", "--text-mask", "--text_mask", "text_mask", metavar="WORDS", help="What is painted anew."),
    _option(_FROM, "--invert-mask", "--invert_mask", "invert_mask", is_flag=True, default=None),
    _option(_FROM, "--outpaint", metavar="SIDE=EXTENT,…", help="Extend it: left=128,top=25%"),
    _option(_WITH, "--lora", "loras", multiple=True, metavar="NAME[:WEIGHT]", help="Again for each LoRA."),
    _option(_WITH, "--controlnet", "controlnets", multiple=True, metavar="NAME:IMAGE[:WEIGHT]", help="Again for each."),
    _option(_WITH, "--vae", metavar="NAME"),
    _option(_WITH, "--refiner", metavar="NAME[:START]", help="SDXL's refiner, and where in the run it begins."),
    _option("The job", "--priority", type=int, help="Higher runs first."),
)


def job_options(command: Command) -> Command:
    """Give a command all options that ask for something of a job."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass
class Asked:
    """What options ask for."""

    #: The keys of a job.
    job: dict[str, Any]
    #: The pictures that lie beside the job, by the names that it gives them.
    pictures: dict[str, Path] = field(default_factory=dict)

    def beside(self, path: Path) -> str:
        """The name of a picture beside the job; pictures of different folders may have one name."""
        number = 1
        while True:
            name = path.name if number == 1 else f"{path.stem}-{number}{path.suffix}"
            if self.pictures.setdefault(name, path) == path:
                return name
            number += 1


def asked(prompt: str, options: Mapping[str, Any]) -> Asked:
    """The job of a prompt and options. Raises click.UsageError for options that do not go together."""
    given = {key: value for key, value in options.items() if value not in (None, ())}
    found = Asked({"prompt": prompt})
    _of_pictures(given, found)
    _of_models(given, found)
    _of_noise(given, found.job)
    found.job.update(given)
    return found


def _of_pictures(given: dict[str, Any], found: Asked) -> None:
    strength = {"strength": given.pop("strength")} if "strength" in given else {}
    fit = {"fit": given.pop("fit")} if "fit" in given else {}
    if given.pop("hires_fix", False):
        found.job["hires"] = strength
    if "init_img" in given:
        found.job["init"] = {"image": found.beside(given.pop("init_img")), **strength, **fit}
    elif fit or (strength and "hires" not in found.job):
        raise click.UsageError("-f and --fit are about a picture to start from: name it with -I.")
    mask = {
        **({"image": found.beside(given.pop("init_mask"))} if "init_mask" in given else {}),
        **({"text": given.pop("text_mask")} if "text_mask" in given else {}),
        **({"invert": True} if given.pop("invert_mask", False) else {}),
    }
    found.job |= {"mask": mask} if mask else {}
    if "outpaint" in given:
        found.job["outpaint"] = dict(_sides(given.pop("outpaint")))


def _of_models(given: dict[str, Any], found: Asked) -> None:
    loras = [dict(zip(("name", "weight"), _with_number(text), strict=False)) for text in given.pop("loras", ())]
    controls = [_control(text, found) for text in given.pop("controlnets", ())]
    found.job |= {key: listed for key, listed in (("loras", loras), ("controlnets", controls)) if listed}
    if "refiner" in given:
        found.job["refiner"] = dict(zip(("model", "start"), _with_number(given.pop("refiner")), strict=False))


def _of_noise(given: dict[str, Any], job: dict[str, Any]) -> None:
    from invokeai_daemon.job.commands.switches import axes, pairs

    variation: dict[str, Any] = {"amount": given.pop("variation_amount")} if "variation_amount" in given else {}
    try:
        if "with_variations" in given:
            variation["with"] = pairs(given.pop("with_variations"))
        letters = axes(given.pop("seamless_axes", "xy"))
    except ValueError as error:
        raise click.UsageError("-V takes seeds and weights, 42:0.3,43:0.1; --seamless-axes takes x or y.") from error
    job |= {"variation": variation} if variation else {}
    if given.pop("seamless", False):
        job |= {f"seamless_{axis}": True for axis in letters}


def _control(text: str, found: Asked) -> dict[str, Any]:
    name, colon, rest = text.partition(":")
    image, *weight = _with_number(rest)
    if not (name and colon and image):
        raise click.UsageError(f"--controlnet {text}: write it as NAME:IMAGE or NAME:IMAGE:WEIGHT.")
    path = Path(image)
    if not path.is_file():
        raise click.UsageError(f"--controlnet {text}: there is no picture {image}.")
    return {"name": name, "image": found.beside(path), **({"weight": weight[0]} if weight else {})}


def _with_number(text: str) -> list[Any]:
    """`ink:0.8` as a name and a number; a text without a number is a name."""
    name, colon, number = text.rpartition(":")
    try:
        return [name, float(number)] if colon else [text]
    except ValueError:
        return [text]


def _sides(text: str) -> Iterator[tuple[str, int | str]]:
    """`left=128,top=25%`. What is no side or no extent is told by the job's own check."""
    for part in text.split(","):
        side, _, extent = part.partition("=")
        yield side.strip(), int(extent) if extent.strip().isdigit() else extent.strip()
