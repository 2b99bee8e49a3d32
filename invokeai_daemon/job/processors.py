"""Processors: what makes a control picture of any picture. Their names, their options, and which is usual, as a table.

Planning checks a job with it, `engine/processors/` makes the pictures. The names are InvokeAI's where the thing is the
same; what only resembles one of InvokeAI's has a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from invokeai_daemon.errors import Problem
from invokeai_daemon.job.schema.adapters import ControlNet, T2IAdapter
from invokeai_daemon.strict_toml import nearest, show

Value = int | float | bool | str
Asked = TypeVar("Asked", ControlNet, T2IAdapter)


@dataclass(frozen=True)
class Option:
    """One option of a processor. A whole default takes whole numbers only."""

    default: Value
    says: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()

    def mistake(self, value: object) -> str:
        """What is wrong with a value, as a sentence; empty when nothing is."""
        if self.choices:
            return "" if value in self.choices else f"{show(value)} is none of {', '.join(self.choices)}."
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else f"{show(value)} is not true or false."
        whole = isinstance(self.default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return f"{show(value)} is no {'whole ' if whole else ''}number."
        return "" if self.low <= value <= self.high else f"{value} is not between {self.low:g} and {self.high:g}."


@dataclass(frozen=True)
class Processor:
    """One way to make a control picture."""

    name: str
    #: What it makes of a picture.
    says: str
    options: Mapping[str, Option] = field(default_factory=dict)
    #: The type of the registered model that it looks through; empty for none.
    model: str = ""


NONE = "none"

PROCESSORS: tuple[Processor, ...] = (
    Processor(NONE, "nothing: the picture is ready"),
    Processor(
        "canny",
        "thin white edges on black",
        {
            "low_threshold": Option(100, "edges weaker than this are none", 0, 255),
            "high_threshold": Option(200, "edges stronger than this are certain", 0, 255),
        },
    ),
    Processor(
        "line_drawing",
        "drawn lines, white on black, from the difference of two blurs",
        {
            "sigma": Option(1.0, "blur in pixels: the width of the lines", 0.3, 20.0),
            "strength": Option(60.0, "how white faint lines become", 0.1, 200.0),
        },
    ),
    Processor(
        "scribble",
        "thick white strokes on black, without detail",
        {
            "sigma": Option(3.0, "blur in pixels: what is smaller is left out", 0.3, 20.0),
            "thickness": Option(5, "of the strokes, in pixels", 1, 51),
        },
    ),
    Processor(
        "soft_edges",
        "edges, brighter the stronger they are",
        {"sigma": Option(1.5, "blur in pixels: how soft", 0.0, 20.0)},
    ),
    Processor(
        "line_segments",
        "straight lines, white on black",
        {
            "length": Option(20, "shortest line, in pixels", 1, 4096),
            "thickness": Option(1, "in pixels", 1, 51),
        },
    ),
    Processor(
        "color_map",
        "blocks of one colour",
        {"tile_size": Option(64, "side of a block, in pixels", 1, 4096)},
    ),
    Processor(
        "content_shuffle",
        "the picture torn and twisted: its colours without its shapes",
        {
            "scale_factor": Option(256, "how coarse the flow is, in pixels", 4, 4096),
            "seed": Option(0, "of the flow", 0, 2**32 - 1),
        },
    ),
    Processor(
        "tile",
        "the picture made smaller, which leaves its detail to the model",
        {"down_sampling_rate": Option(1.0, "how much smaller", 1.0, 16.0)},
    ),
    Processor(
        "blur",
        "a blurred picture",
        {
            "radius": Option(8.0, "in pixels", 0.0, 512.0),
            "blur_type": Option("gaussian", "the kind of blur", choices=("gaussian", "box")),
        },
    ),
    Processor("invert", "light for dark: black lines on white become white lines on black"),
    Processor("binarize", "black and white", {"threshold": Option(128, "what is as bright is white", 0, 255)}),
    Processor("brightness", "grey, from black to white: for pictures in which near things are bright"),
    Processor(
        "normal_from_depth",
        "the slopes of a depth map, bright is near",
        {"strength": Option(10.0, "how steep", 0.1, 100.0)},
    ),
    Processor("depth_anything", "how near things are, bright is near", model="depth_estimator"),
)
BY_NAME: Mapping[str, Processor] = MappingProxyType({each.name: each for each in PROCESSORS})

#: Other words for the same thing: InvokeAI's nodes of several versions, and what people say.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "canny_edge": "canny",
        "color": "color_map",
        "colour_map": "color_map",
        "shuffle": "content_shuffle",
        "tile_resample": "tile",
        "depth": "depth_anything",
        "midas": "depth_anything",
        "zoe": "depth_anything",
        "zoe_depth": "depth_anything",
        "binarise": "binarize",
    }
)
#: What InvokeAI's names end in.
ENDINGS = ("_image_processor", "_edge_detection", "_depth_estimation", "_detection", "_processor")

#: What InvokeAI has and we have not, and what of ours makes something like it of the same picture; each looks through a
#: network of its own.
NOT_YET: Mapping[str, str] = MappingProxyType(
    {
        "lineart": "line_drawing",
        "lineart_anime": "line_drawing",
        "hed": "soft_edges",
        "pidi": "soft_edges",
        "mlsd": "line_segments",
        "normalbae": "",
        "normal": "",
        "normal_map": "",
        "leres": "depth_anything",
        "openpose": "",
        "dw_openpose": "",
        "mediapipe_face": "",
        "pbr_maps": "",
        "segment_anything": "",
    }
)

#: What a part of a model's name says about the pictures that it was trained with. The first that fits counts.
USUAL: tuple[tuple[str, str], ...] = (
    ("canny", "canny"),
    ("mlsd", "mlsd"),
    ("depth", "depth_anything"),
    ("zoe", "depth_anything"),
    ("bae", "normalbae"),
    ("normal", "normalbae"),
    ("sketch", "pidi"),
    ("scribble", "scribble"),
    ("lineart", "lineart"),
    ("soft", "hed"),
    ("hed", "hed"),
    ("pidi", "pidi"),
    ("shuffle", "content_shuffle"),
    ("pose", "dw_openpose"),
    ("mediapipe", "mediapipe_face"),
    ("color", "color_map"),
    ("tile", "tile"),
)


def canonical(name: str) -> str:
    """Our name of a processor, or the name as it is where we know none."""
    plain = name.strip().lower().replace("-", "_")
    for ending in ENDINGS:
        plain = plain.removesuffix(ending)
    return ALIASES.get(plain, plain)


def usual(model_name: str, preprocessor: str | None = None) -> str:
    """What makes the pictures that a model follows: its own setting, or what its name says.

    Where only something like it is there, that; "none" where nothing is known.
    """
    named = next((processor for part, processor in USUAL if part in model_name.lower()), NONE)
    name = canonical(preprocessor) if preprocessor else named
    return NOT_YET.get(name) or name


def settled(asked: Asked, model_name: str, preprocessor: str | None = None) -> Asked:
    """A table of a job with the processor that counts, and all of its options."""
    name = usual(model_name, preprocessor) if asked.processor is None else canonical(asked.processor)
    known = BY_NAME.get(name)
    defaults = {key: option.default for key, option in known.options.items()} if known else {}
    options = {**defaults, **asked.processor_options}
    return asked.model_copy(update={"processor": name, "processor_options": options})


def problems(asked: ControlNet | T2IAdapter, key: str, lines: Mapping[str, int] | None = None) -> Iterator[Problem]:
    """What is wrong with the processor of a settled table. `key` is the table's own: controlnets[0]."""

    def problem(message: str, part: str, hint: str) -> Problem:
        where = f"{key}.{part}"
        return Problem(message, where, (lines or {}).get(where, (lines or {}).get(key)), hint)

    name = asked.processor or NONE
    known = BY_NAME.get(name)
    if known is None:
        yield problem(*_unknown(name))
        return
    for option, value in asked.processor_options.items():
        yield from _of_option(known, option, value, problem)


def _unknown(name: str) -> tuple[str, str, str]:
    ready = 'or make the picture elsewhere and set processor = "none"'
    if name in NOT_YET:
        nearest_of_ours = f'Use "{NOT_YET[name]}", ' if NOT_YET[name] else "Use another one, "
        return (
            f'"{name}" looks through a network that this program has not yet.',
            "processor",
            f"{nearest_of_ours}{ready}.",
        )
    meant = nearest(name, [*BY_NAME, *ALIASES, *NOT_YET])
    hint = f'Did you mean "{meant}"?' if meant else f"Use one of {', '.join(BY_NAME)}."
    return f"{show(name)} is no processor.", "processor", hint


def _of_option(
    processor: Processor, name: str, value: Any, problem: Callable[[str, str, str], Problem]
) -> Iterator[Problem]:
    option, part = processor.options.get(name), f"processor_options.{name}"
    if option is None:
        listed = ", ".join(processor.options)
        hint = f"It has {listed}." if listed else "It has none."
        yield problem(f'"{name}" is no option of processor {processor.name}.', part, hint)
    elif mistake := option.mistake(value):
        yield problem(mistake, part, f"{option.says[0].upper()}{option.says[1:]}; usually {option.default}.")
