"""Metadata: what is written into a picture makes the same plan again, for us and for the programs around us."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invokeai_daemon import __version__
from invokeai_daemon.errors import JobError
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan
from invokeai_daemon.job.plan_job import resolve
from invokeai_daemon.job.prompt.tree import prompt_of
from invokeai_daemon.job.prompt.understand import understood
from invokeai_daemon.job.records import Record, job_of_record, record_of_chunks
from invokeai_daemon.job.schema import ControlNet, Hires, Init, IPAdapter, Lora, Mask, Refiner, T2IAdapter
from invokeai_daemon.output.metadata import chunks, read_record, versions
from invokeai_daemon.output.png import encode
from invokeai_daemon.output.recorded import recorded
from invokeai_daemon.settings import LimitSettings
from tests.job.strategies import plans
from tests.strict_toml.values import texts

IMAGE = Image(2, 42, "a red circle", "blurry, dark", 64, 96, 20, 7.5, "dpmpp_2m_k")
PLAN = Plan(
    "cat",
    ModelRef("demo", "/home/me/models/demo", "sd-1", hash="blake3:0123"),
    (IMAGE,),
    meta={"x-mood": "calm", "meta": {"a": 1}},
)


def write(path: Path, texts: dict[str, str]) -> Path:
    path.write_bytes(encode(np.zeros((8, 8, 3), np.uint8), texts, 1))
    return path


def planned_again(text: str) -> Plan:
    job = parse_job(text.encode(), "again.toml")
    return resolve(
        job,
        "again",
        PLAN.model,
        model_defaults={},
        settings_defaults={"steps": 999, "negative_prompt": "not asked for"},
        draw_seed=lambda: 0,
        file_name="{number}",
        limits=LimitSettings(max_pixels=2**31),
    )


@given(plans(), st.sampled_from(["all", "invokeai_daemon", "invokeai_metadata", "parameters"]), st.data())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_picture_makes_the_same_plan_again(tmp_path: Path, plan: Plan, kept: str, data: st.DataObject) -> None:
    image = data.draw(st.sampled_from(plan.images))
    written = chunks(plan, image, versions())
    if kept != "all":
        written = {kept: written[kept]}
    record = read_record(write(tmp_path / "a.png", written))
    if kept == "parameters" and not _says_itself(record, image):
        return  # A1111's text cannot say every prompt: it has no quoting, and no blends
    again = planned_again(job_of_record(record)).images
    told = recorded(plan, image)
    assert [_values(one) for one in again] == [_values(told)]
    assert [_meaning(one) for one in again] == [_meaning(image)]
    if kept in ("all", "invokeai_daemon"):
        assert again == (replace(told, number=1),)
    assert record.job["model"] == plan.model.name


def _values(image: Image) -> dict[str, Any]:
    return {key: value for key, value in vars(image).items() if key != "number" and "prompt" not in key}


def _meaning(image: Image) -> list[Any]:
    """The trees of the prompts, with single white space."""
    seen = understood(image)
    return [
        [(each.fragments and prompt_of(each.fragments)) for each in tree.texts] + [tree.weights]
        for tree in (seen.positive, seen.negative)
    ]


def _says_itself(record: Record, image: Image) -> bool:
    said = replace(image, **{key: record.job.get(key, "") for key in ("prompt", "negative_prompt", "prompt_syntax")})
    return _meaning(said) == _meaning(image)


def test_the_own_record_carries_what_the_user_wrote(tmp_path: Path) -> None:
    record = read_record(write(tmp_path / "a.png", chunks(PLAN, IMAGE, {"torch": "2.10"})))
    assert record.writer == "invokeai-daemon"
    assert planned_again(job_of_record(record)).meta == PLAN.meta
    assert record.data["versions"] == {"torch": "2.10"}
    assert record.data["job"] == "cat"


def test_the_own_record_names_the_scheduler_that_followed_the_flow(tmp_path: Path) -> None:
    image = replace(IMAGE, scheduler="euler")
    plan = replace(PLAN, model=replace(PLAN.model, base="flux"), images=(image,))
    record = read_record(write(tmp_path / "a.png", chunks(plan, image, {})))
    assert record.data["scheduler"] == {"class": "FlowEuler", "options": {}}


#: Everything that an image can be made with, as the planner names it.
RICH = replace(
    IMAGE,
    width=128,
    vae="kl",
    loras=(Lora(name="ink", weight=0.8), Lora(name="a: b", weight=0.5, text_encoder_weight=0.25)),
    controlnets=(
        ControlNet(name="canny", image="inputs/2-edges.png", weight=0.5, end=0.8, processor="canny"),
        ControlNet(name="depth", image="inputs/2-edges.png", control_mode="unbalanced"),
    ),
    t2i_adapters=(T2IAdapter(name="sketch", image="inputs/2-edges.png", resize_mode="crop_resize"),),
    ip_adapters=(IPAdapter(name="face", image="/home/me/face.png", method="style"),),
    init=Init(image="inputs/1-photo.png", strength=0.6),
    mask=Mask(text="hair", blur=4),
    refiner=Refiner(model="xl-refiner", start=0.7),
)
RICH_PLAN = replace(
    PLAN,
    images=(RICH,),
    references=(
        ModelRef("ink", "/home/me/ink.safetensors", "sd-1", "lora", "sha256:aabbccddeeff0011", asked="in"),
        ModelRef("canny", "/home/me/canny", "sd-1", "controlnet", "sha256:0123456789ab"),
        ModelRef("kl", "/home/me/kl", "sd-1", "vae", "blake3:77"),
        ModelRef("sks", "/home/me/sks.pt", "sd-1", "embedding", "sha256:99887766554433"),
    ),
    inputs=(
        Input("/home/me/photo.png", "inputs/1-photo.png", "sha256:11"),
        Input("edges.png", "inputs/2-edges.png", "sha256:22"),
    ),
)


def test_a_variation_of_nothing_is_a_variation_in_a_text_of_ours() -> None:
    varied = replace(IMAGE, variations=((7, 0.0),))
    record = record_of_chunks({"parameters": chunks(PLAN, varied, {})["parameters"]}, "a.png")
    assert record is not None and record.job["variation"] == {"with": [[7, 0.0]]}


def test_a_picture_tells_nobody_where_the_users_files_lie() -> None:
    assert "/home/me" not in "".join(chunks(RICH_PLAN, RICH, versions()).values())


def test_the_own_record_has_the_hashes_of_all_that_a_picture_was_made_with() -> None:
    told = json.loads(chunks(RICH_PLAN, RICH, {})["invokeai_daemon"])
    assert [(each["type"], each["name"], each["hash"][:9]) for each in told["references"]] == [
        ("lora", "ink", "sha256:aa"),
        ("controlnet", "canny", "sha256:01"),
        ("vae", "kl", "blake3:77"),
        ("embedding", "sks", "sha256:99"),
    ]
    assert told["inputs"] == [
        {"name": "photo.png", "file": "outputs/cat/inputs/1-photo.png", "hash": "sha256:11"},
        {"name": "edges.png", "file": "outputs/cat/inputs/2-edges.png", "hash": "sha256:22"},
    ]


def test_invokeai_gets_what_was_attached_in_its_own_fields() -> None:
    told = json.loads(chunks(RICH_PLAN, RICH, {})["invokeai_metadata"])
    ink = {"key": "sha256:aabbccddeeff0011", "hash": "sha256:aabbccddeeff0011", "name": "ink"}
    edges = {"image": {"image_name": "outputs/cat/inputs/2-edges.png"}}
    canny = {"key": "sha256:0123456789ab", "hash": "sha256:0123456789ab", "name": "canny"}
    assert (told["generation_mode"], told["strength"]) == ("inpaint", 0.6)
    assert told["init_image"] == "outputs/cat/inputs/1-photo.png"
    assert told["loras"][0] == {"model": {**ink, "base": "sd-1", "type": "lora"}, "weight": 0.8}
    assert told["controlnets"][0] == {
        "control_model": {**canny, "base": "sd-1", "type": "controlnet"},
        **edges,
        "processed_image": None,
        "control_weight": 0.5,
        "begin_step_percent": 0.0,
        "end_step_percent": 0.8,
        "control_mode": "balanced",
        "resize_mode": "just_resize",
    }
    assert told["t2iAdapters"][0]["t2i_adapter_model"]["name"] == "sketch"
    assert (told["ipAdapters"][0]["method"], told["ipAdapters"][0]["image"]) == ("style", {"image_name": "face.png"})
    assert (told["vae"]["name"], told["vae"]["type"]) == ("kl", "vae")
    assert (told["refiner_model"]["name"], told["refiner_start"], told["refiner_steps"]) == ("xl-refiner", 0.7, 20)


def test_a1111_gets_what_was_attached_in_its_words_and_civitai_the_hashes() -> None:
    text = chunks(RICH_PLAN, RICH, {})["parameters"]
    prompt, _, told = text.split("\n")
    assert prompt == "a red circle <lora:ink:0.8>"
    for said in (
        "VAE: kl, Denoising strength: 0.6, Mask blur: 4, Refiner: xl-refiner, Refiner switch at: 0.7",
        'ControlNet 0: "Module: canny, Model: canny [01234567], Weight: 0.5, Resize Mode: Just Resize, '
        'Guidance Start: 0, Guidance End: 0.8, Control Mode: Balanced"',
        'ControlNet 2: "Module: none, Model: sketch, Weight: 1, Resize Mode: Crop and Resize',
        'Lora hashes: "ink: aabbccddeeff", TI hashes: "sks: 998877665544", ',
        ', Hashes: {"model":"0123","lora:ink":"aabbccddee","controlnet:canny":"0123456789","vae":"77",'
        '"embed:sks":"9988776655"}',
    ):
        assert said in told
    hires = replace(IMAGE, hires=Hires(strength=0.5))
    assert (
        "Denoising strength: 0.5, Hires resize: 64x96, Hires steps: 20, Hires upscaler: Latent"
        in (chunks(PLAN, hires, {})["parameters"])
    )


def test_invokeai_gets_its_core_metadata() -> None:
    assert json.loads(chunks(PLAN, IMAGE, {})["invokeai_metadata"]) == {
        "generation_mode": "txt2img",
        "positive_prompt": "a red circle",
        "negative_prompt": "blurry, dark",
        "width": 64,
        "height": 96,
        "seed": 42,
        "rand_device": "cpu",
        "cfg_scale": 7.5,
        "steps": 20,
        "scheduler": "dpmpp_2m_k",
        "model": {"key": "blake3:0123", "hash": "blake3:0123", "name": "demo", "base": "sd-1", "type": "main"},
        "app_version": f"invokeai-daemon {__version__}",
    }


def test_invokeai_is_told_of_an_sdxl_picture_as_it_tells_itself() -> None:
    plan = Plan("cat", ModelRef("xl", "/m", "sdxl", hash="blake3:0123"), (IMAGE,))
    told = json.loads(chunks(plan, IMAGE, {})["invokeai_metadata"])
    assert told["generation_mode"] == "sdxl_txt2img"
    assert told["model"]["base"] == "sdxl"
    assert (told["positive_style_prompt"], told["negative_style_prompt"]) == ("", "")


def test_a1111_gets_its_text() -> None:
    assert chunks(PLAN, IMAGE, {})["parameters"] == (
        "a red circle\nNegative prompt: blurry, dark\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 64x96, Model: demo, "
        f"Version: invokeai-daemon {__version__}"
    )


def test_a1111_gets_what_it_has_words_for_and_the_rest_as_one_field() -> None:
    odd = replace(IMAGE, clip_skip=1, seamless_x=True, seamless_y=True, variations=((7, 0.25),), perlin=0.5)
    told = chunks(PLAN, odd, {})["parameters"].split("\n")[-1]
    assert "Clip skip: 2, Tiling: True, Variation seed: 7, Variation seed strength: 0.25, " in told
    assert r'invokeai-daemon: "{\"perlin\":0.5}", Model: demo' in told


def test_a_sha256_is_written_as_a1111_shortens_it_and_odd_names_are_quoted() -> None:
    plan = Plan("cat", ModelRef("a, b", "/m", "sd-1", hash="sha256:45dee52b1fcc00"), (IMAGE,))
    assert 'Model hash: 45dee52b1f, Model: "a, b", ' in chunks(plan, IMAGE, {})["parameters"]


def test_the_chunks_every_reader_needs_are_plain_ascii_for_any_prompt() -> None:
    odd = Image(1, 1, "猫 \U0001f600", "é", 64, 64, 1, 1.0, "euler")
    written = chunks(Plan("a", PLAN.model, (odd,)), odd, {})
    assert written["invokeai_metadata"].isascii()
    assert written["invokeai_daemon"].isascii()


def test_a_picture_without_records_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="does not say how it was made"):
        read_record(write(tmp_path / "a.png", {"Software": "a camera"}))


def test_the_versions_are_those_of_the_packages() -> None:
    package = importlib.util.find_spec("diffusers")
    assert package is not None and package.origin is not None
    assert f'__version__ = "{versions()["diffusers"]}"' in Path(package.origin).read_text()
    assert versions()["invokeai-daemon"] == __version__


def test_reading_and_planning_load_no_heavy_package() -> None:
    program = (
        "import sys, invokeai_daemon.job.commands, invokeai_daemon.job.plan_job, invokeai_daemon.output.results as r;"
        "r.versions(); print([name for name in ('torch', 'numpy', 'PIL', 'diffusers') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@given(st.sampled_from(["invokeai_daemon", "invokeai_metadata", "sd-metadata", "Dream", "parameters"]), texts)
@settings(deadline=None, max_examples=150)
def test_any_text_in_a_chunk_is_a_record_with_a_job_or_with_problems(keyword: str, text: str) -> None:
    record = record_of_chunks({keyword: text}, "a.png")
    assert record is not None
    if not record.problems:
        parse_job(job_of_record(record).encode(), "a.toml")
