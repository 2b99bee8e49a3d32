"""Jobs and plans of every kind, for the laws that hold for all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.prompt.understand import SYNTAXES
from invokeai_daemon.job.schedulers import SCHEDULERS
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
}
listed_in_toml = listed.filter(bool).map(lambda pairs: [list(pair) for pair in pairs])
variations = st.fixed_dictionaries({"with": listed_in_toml}) | st.fixed_dictionaries(
    {"amount": shares.filter(bool)}, optional={"seed": seeds, "with": listed_in_toml}
)

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
}
#: The keys of a job, as a file may set them.
jobs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"prompt": texts}, optional=job_keys)

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
    )
