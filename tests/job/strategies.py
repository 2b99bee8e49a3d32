"""Jobs and plans of every kind, for the laws that hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan
from invokeai_daemon.job.plan_job import AS_ASKED
from invokeai_daemon.job.prompt.understand import SYNTAXES
from invokeai_daemon.job.schedulers import SCHEDULERS
from invokeai_daemon.job.schema import Job
from tests.strict_toml.values import bare_keys, tables, texts, values

seeds = st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**32 - 1, 2**32 - 2])
sizes = st.integers(8, 512).map(lambda n: n * 8)
scales = st.floats(1, 200).map(lambda scale: round(scale, 3))
model_names = st.text("abcXYZ019-_. é#=", min_size=1, max_size=20).map(str.strip).filter(bool)

shares = st.integers(0, 1000).map(lambda n: n / 1000)
listed = st.lists(st.tuples(seeds, shares), max_size=3)
#: Keys that an image has no use for when nobody asks.
optional_keys: dict[str, st.SearchStrategy[Any]] = {
    "prompt_syntax": st.sampled_from(SYNTAXES),
    "log_tokenization": st.booleans(),
    "perlin": shares,
    "threshold": st.integers(0, 300).map(lambda n: n / 10),
    "h_symmetry_time_pct": shares,
    "v_symmetry_time_pct": shares,
    "seamless_x": st.booleans(),
    "seamless_y": st.booleans(),
    "cfg_rescale_multiplier": shares,
    "clip_skip": st.integers(0, 23),
    "denoising_start": st.integers(0, 499).map(lambda n: n / 1000),
    "denoising_end": st.integers(500, 1000).map(lambda n: n / 1000),
    "save_intermediates": st.integers(0, 1000),
    "vae": model_names,
    "guidance": st.integers(0, 100).map(lambda n: n / 4),
}
listed_in_toml = listed.filter(bool).map(lambda pairs: [list(pair) for pair in pairs])
variations = st.fixed_dictionaries({"with": listed_in_toml}) | st.fixed_dictionaries(
    {"amount": shares.filter(bool)}, optional={"seed": seeds, "with": listed_in_toml}
)

paths = st.sampled_from(["photo.png", "set/b.webp", "ü 1.jpg", "a-b.png"])
between = st.integers(1, 999).map(lambda n: n / 1000)
weights = st.integers(-4, 7).map(lambda n: n / 4).filter(lambda weight: weight != 1)


def _table(needed: dict[str, Any], **values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table; what it says otherwise than the default."""
    return st.fixed_dictionaries(needed, optional=values)


_follows: dict[str, st.SearchStrategy[Any]] = {
    "weight": weights,
    "begin": st.integers(1, 499).map(lambda n: n / 1000),
    "end": st.integers(500, 999).map(lambda n: n / 1000),
}
_controls: dict[str, st.SearchStrategy[Any]] = {
    **_follows,
    "resize_mode": st.sampled_from(["crop_resize", "fill_resize", "just_resize_simple"]),
    "processor": st.sampled_from(["none", "canny"]),
    "processor_options": st.just({"low": 10}),
}
_model_and_picture = {"name": model_names, "image": paths}
#: Percent of a side, or pixels.
_extents = st.integers(1, 512) | st.sampled_from(["25%", "12.5%"])
_of_init: dict[str, st.SearchStrategy[Any]] = {
    "mask": st.one_of(
        _table({"image": paths}, invert=st.just(True), grow=st.integers(1, 9), blur=st.integers(9, 20)),
        _table({"text": texts}, threshold=between.filter(lambda n: n != 0.5), paste_back=st.just(False)),
        st.just({"width": 64, "height": 128, "color_correct": False}),
    ),
    "outpaint": _table({}, left=_extents, right=_extents, top=_extents, bottom=_extents),
    "infill": _table({"method": st.sampled_from(["tile", "cv2"])}, color=st.just("#00ff7F"), tile_size=st.just(64)),
    "seam": _table({}, size=st.integers(0, 90), blur=st.integers(0, 9), strength=between, steps=st.integers(1, 29)),
}
_inits = _table(
    {"image": paths},
    strength=between.filter(lambda n: n != 0.75),
    fit=st.just(False),
    color_match=st.just(True),
    depth=paths,
    image_guidance_scale=st.just(2.5),
)
#: What a job attaches to its model or makes its picture from.
tables_of_jobs: dict[str, st.SearchStrategy[Any]] = {
    "style_prompt": st.sampled_from(["in oil", "in (ink)1.2"]),
    "negative_style_prompt": st.just("in chalk"),
    "loras": st.lists(
        _table({"name": model_names}, weight=weights, text_encoder_weight=weights), min_size=1, max_size=3
    ),
    "controlnets": st.lists(
        _table(_model_and_picture, **_controls, control_mode=st.sampled_from(["more_prompt", "unbalanced"])),
        min_size=1,
        max_size=2,
    ),
    "t2i_adapters": st.lists(_table(_model_and_picture, **_controls), min_size=1, max_size=2),
    "ip_adapters": st.lists(
        _table(_model_and_picture, **_follows, method=st.just("style"), image_encoder=model_names),
        min_size=1,
        max_size=2,
    ),
    "init": _inits,
    "init_color": paths,
    **_of_init,
    "hires": _table({}, strength=between.filter(lambda n: n != 0.75), size=sizes),
    "refiner": _table({"model": model_names}, start=between.filter(lambda n: n != 0.8)),
}


def sensible(job: dict[str, Any]) -> dict[str, Any]:
    """A job whose parts of the init image have an init image, and that makes no large picture from text with one."""
    without = {"hires"} if "init" in job else _of_init.keys()
    return {key: value for key, value in job.items() if key not in without}


job_keys: dict[str, st.SearchStrategy[Any]] = {
    "model": model_names,
    "negative_prompt": texts,
    "width": sizes,
    "height": sizes,
    "steps": st.integers(1, 1000),
    "cfg_scale": scales,
    "scheduler": st.sampled_from(SCHEDULERS),
    "seed": seeds,
    "iterations": st.integers(1, 20),
    "priority": st.integers(-1000, 1000),
    **optional_keys,
    "variation": variations,
    **tables_of_jobs,
}
#: The keys of a job, as a file may set them.
jobs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"prompt": texts}, optional=job_keys).map(sensible)

own_keys = st.builds(
    lambda own, meta: {**{f"x-{key}": value for key, value in own.items()}, **({"meta": meta} if meta else {})},
    st.dictionaries(bare_keys, values, max_size=2),
    tables,
)

models = st.builds(
    ModelRef,
    name=model_names,
    path=texts,
    base=st.sampled_from(["sd-1", "sd-2", "sdxl"]),
    hash=st.sampled_from(["", "blake3:0123456789abcdef"]),
    variant=st.none() | st.just("inpaint"),
    prediction_type=st.none() | st.just("epsilon"),
)


@st.composite
def plans(draw: st.DrawFn, prompts: st.SearchStrategy[str] = texts) -> Plan:
    """Plans as `resolve` makes them: images that differ in number and seed."""
    common: dict[str, Any] = {
        "prompt": draw(prompts),
        "negative_prompt": draw(prompts),
        "width": draw(sizes),
        "height": draw(sizes),
        "steps": draw(st.integers(1, 1000)),
        "cfg_scale": draw(scales),
        "scheduler": draw(st.sampled_from(SCHEDULERS)),
        **draw(st.fixed_dictionaries({}, optional=optional_keys)),
    }
    asked = draw(st.fixed_dictionaries({}, optional=tables_of_jobs).map(sensible))
    job = Job(prompt="", **asked)
    common |= {key: tuple(value) if isinstance(value := getattr(job, key), list) else value for key in AS_ASKED}
    drawn = draw(st.lists(seeds, min_size=1, max_size=5))
    mixed = tuple(draw(listed))
    amount, other = draw(shares), draw(seeds)
    images = tuple(
        Image(
            number=place + 1,
            seed=seed,
            variations=(*mixed, ((other + place) % 2**32, amount)) if amount else mixed,
            **common,
        )
        for place, seed in enumerate(drawn)
    )
    return Plan(
        job_id=draw(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)),
        model=draw(models),
        images=images,
        priority=draw(st.integers(-1000, 1000)),
        meta=draw(own_keys),
        references=tuple(_references(common, draw(st.booleans()))),
        inputs=tuple(Input(path, f"inputs/{n}-x.png", "sha256:ab") for n, path in enumerate(draw(st.sets(paths)))),
    )


def _references(common: dict[str, Any], is_renamed: bool) -> Iterator[ModelRef]:
    """The models that images name; the registry may call them otherwise than the job does."""
    end = " 2" if is_renamed else ""
    named = {("vae", common.get("vae")), ("main", common["refiner"] and common["refiner"].model)}
    for type, key in (("lora", "loras"), ("controlnet", "controlnets"), ("t2i_adapter", "t2i_adapters")):
        named |= {(type, each.name) for each in common[key]}
    for type, name in sorted((type, name) for type, name in named if name):
        yield ModelRef(name + end, "/home/me/a", "sd-1", type, "blake3:ab", format="checkpoint", asked=name)
