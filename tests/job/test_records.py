"""Records of other programs: read as they mean it, and what cannot be made again is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import JobError
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.prompt.understand import understand
from invokeai_daemon.job.records import Record, job_of_record, record_of_chunks, split_parameters
from tests.strict_toml.values import values

SD_METADATA: dict[str, Any] = {
    "model": "stable diffusion",
    "model_id": "stable-diffusion-1.5",
    "model_hash": "cc6c",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.3.5.post2",
    "image": {
        "prompt": [{"prompt": "a lighthouse at dusk [blurry]", "weight": 1.0}],
        "steps": 30,
        "cfg_scale": 7.5,
        "threshold": 0.0,
        "perlin": 0.0,
        "height": 512,
        "width": 512,
        "seed": 3357757885,
        "hires_fix": False,
        "h_symmetry_time_pct": None,
        "v_symmetry_time_pct": None,
        "facetool": "gfpgan",
        "facetool_strength": 0.0,
        "upscale": None,
        "init_mask": None,
        "postprocessing": None,
        "sampler": "k_euler_a",
        "variations": [],
        "type": "txt2img",
    },
}
INVOKEAI: dict[str, Any] = {
    "generation_mode": "txt2img",
    "positive_prompt": "a lighthouse at dusk",
    "negative_prompt": "blurry",
    "width": 1024,
    "height": 768,
    "seed": 2894612345,
    "rand_device": "cpu",
    "cfg_scale": 5.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "dpmpp_3m_k",
    "model": {"key": "6da2", "hash": "blake3:ce3f", "name": "Juggernaut", "base": "sd-1", "type": "main"},
    "loras": [],
    "app_version": "6.9.0",
}
A1111 = """a lighthouse at dusk,
two lines
Negative prompt: blurry,
dark
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x640, \
Model hash: 45dee52b1f, Model: "odd, name", Version: v1.9.4"""
LIGHTHOUSE = {"prompt": "a lighthouse at dusk", "negative_prompt": "blurry", "prompt_syntax": "invokeai"}


def record(**chunks: Any) -> Record:
    """The record of JSON or text chunks; `sd_metadata` stands for the keyword sd-metadata."""
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in chunks.items()}
    found = record_of_chunks({name.replace("sd_", "sd-"): text for name, text in texts.items()}, "drop.png")
    assert found is not None
    return found


def problems(found: Record) -> list[str]:
    return [str(problem) for problem in found.problems]


def test_sd_metadata_of_2_3_becomes_a_job() -> None:
    found = record(sd_metadata=SD_METADATA)
    assert found.writer == "invokeai-2"
    assert found.job == {
        **LIGHTHOUSE,
        "model": "stable-diffusion-1.5",
        "width": 512,
        "height": 512,
        "steps": 30,
        "cfg_scale": 7.5,
        "seed": 3357757885,
        "scheduler": "euler_a",
    }
    assert parse_job(job_of_record(found).encode(), "f").seed == 3357757885


def test_weighted_sub_prompts_are_a_blend() -> None:
    parts = [{"prompt": "a cat [dim]", "weight": 0.25}, {"prompt": 'a "big"++ dog', "weight": 0.75}]
    found = record(sd_metadata={**SD_METADATA, "image": {**SD_METADATA["image"], "prompt": parts}}).job
    assert found["prompt"] == '("a cat", "a (big)1.2100000000000002 dog").blend(0.25, 0.75)'
    assert found["negative_prompt"] == "dim"


def test_brackets_and_colons_mean_nothing_to_invokeai_3() -> None:
    found = record(invokeai_metadata={**INVOKEAI, "positive_prompt": "a [cat]:0.5 b:0.5", "negative_prompt": "c:1"}).job
    assert (found["prompt"], found["negative_prompt"]) == ("a \\[cat\\]\\:0.5 b\\:0.5", "c:1")
    seen = understand(found["prompt"], found["negative_prompt"], found["prompt_syntax"])
    assert (seen.positive.plain_text, seen.negative.plain_text) == ("a [cat]:0.5 b:0.5", "c:1")


def test_pictures_of_this_daemon_from_before_there_was_a_syntax_are_plain() -> None:
    image = {"prompt": "a (cat)++", "negative_prompt": "", "width": 64, "height": 64, "steps": 2, "cfg_scale": 7.5}
    own = {"model": {"name": "demo"}, "image": {**image, "scheduler": "euler", "seed": 1}, "meta": {}}
    assert record(invokeai_daemon=own).job["prompt_syntax"] == "plain"


def test_dream_is_read_where_sd_metadata_is_missing() -> None:
    dream = '"a lighthouse at dusk [blurry]" -s 30 -S 1 -W 512 -H 512 -C 7.5 -A k_lms # model_id=sd'
    assert record(Dream=dream).job == {
        **LIGHTHOUSE,
        "steps": 30,
        "seed": 1,
        "width": 512,
        "height": 512,
        "cfg_scale": 7.5,
        "scheduler": "k_lms",
        "model": "sd",
    }


def test_metadata_of_invokeai_3_and_later_becomes_a_job() -> None:
    assert record(invokeai_metadata=INVOKEAI).job == {
        **LIGHTHOUSE,
        "model": "Juggernaut",
        "width": 1024,
        "height": 768,
        "steps": 30,
        "cfg_scale": 5.5,
        "seed": 2894612345,
        "scheduler": "dpmpp_3m_k",
    }


def test_the_model_of_invokeai_3_0_has_other_keys() -> None:
    old = {**INVOKEAI, "model": {"model_name": "sd15", "base_model": "sd-1", "model_type": "main"}}
    assert record(invokeai_metadata=old).job["model"] == "sd15"


def test_the_text_of_a1111_becomes_a_job() -> None:
    found = record(parameters=A1111)
    assert found.job == {
        "prompt": "a lighthouse at dusk,\ntwo lines",
        "negative_prompt": "blurry,\ndark",
        "prompt_syntax": "a1111",
        "model": "odd, name",
        "width": 512,
        "height": 640,
        "steps": 20,
        "cfg_scale": 7.0,
        "seed": 965400086,
        "scheduler": "dpmpp_2m_k",
    }
    assert found.problems == ()


def test_a_prompt_alone_is_a_text_of_a1111_too() -> None:
    assert split_parameters("a cat: sitting") == ("a cat: sitting", "", {})


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            {"generation_mode": "sdxl_img2img", "init_image": "3f2a.png", "strength": 0.6},
            'init_image: The picture was made from "3f2a.png" in InvokeAI\'s own outputs, which its record does '
            'not hold. Copy it, and write a job with [init] image = "…", strength = 0.6.',
        ),
        ({"generation_mode": "inpaint"}, "generation_mode: The picture was made from a picture and a mask, which its"),
        ({"generation_mode": "wan_i2v"}, 'generation_mode: The picture was made with the mode "wan_i2v"'),
        (
            {"ipAdapters": [{"image": {"image_name": "a.png"}, "weight": 1}]},
            'ipAdapters[0]: The picture was made from "a.png" in InvokeAI\'s own outputs',
        ),
        ({"hrf_enabled": True, "hrf_method": "ESRGAN"}, "hrf_method: The picture was made with a high resolution fix"),
        (
            {"refiner_model": {"name": "xl-refiner"}, "refiner_steps": 20},
            "refiner_steps: The picture was made with a refiner that had steps 20 of its own",
        ),
        ({"scheduler": "dpm_fancy"}, 'scheduler: "dpm_fancy" is no scheduler that is known here.'),
        ({"width": 770}, "width: 770 is not a multiple of 8. Use 768 or 776."),
        ({"seed": "42"}, 'seed: "42" is not a whole number.'),
        ({"cfg_scale": float("nan")}, "cfg_scale: nan is not a finite number."),
    ],
)
def test_what_cannot_be_made_again_is_named(extra: dict[str, Any], told: str) -> None:
    found = record(invokeai_metadata={**INVOKEAI, **extra})
    assert [problem for problem in problems(found) if problem.startswith(told)]
    with pytest.raises(JobError, match=r"^drop\.png: "):
        job_of_record(found)


@pytest.mark.parametrize("joined", ["", " ", "a lighthouse at dusk", "a lighthouse at dusk "])
def test_a_style_prompt_that_says_what_the_prompt_says_is_none(joined: str) -> None:
    sdxl = {"generation_mode": "sdxl_txt2img", "positive_style_prompt": joined, "negative_style_prompt": "blurry"}
    assert problems(record(invokeai_metadata={**INVOKEAI, **sdxl})) == []


def served(found: Record) -> list[str]:
    """The problems without those of keys that jobs may not have yet."""
    return [str(problem) for problem in found.problems]


def test_what_invokeai_attached_to_a_model_is_asked_for_again() -> None:
    loras = [{"model": {"name": "ink"}, "weight": 0.8}, {"lora": {"model_name": "old"}, "weight": 0.5}]
    off = {"model": {"name": "off"}, "weight": 1, "is_enabled": False}
    refiner = {"refiner_model": {"name": "xl-refiner"}, "refiner_start": 0.7, "refiner_aesthetic_store": 5}
    passes = {"hrf_enabled": True, "hrf_method": "bilinear", "hrf_strength": 0.45, **refiner}
    styles = {"positive_style_prompt": "oil", "negative_style_prompt": ""}
    vae = {"vae": {"key": "7", "name": "sdxl-vae-fix"}}
    found = record(invokeai_metadata={**INVOKEAI, "loras": [*loras, off], **passes, **styles, **vae})
    assert served(found) == []
    assert found.job.items() >= {
        "loras": [{"name": "ink", "weight": 0.8}, {"name": "old", "weight": 0.5}],
        "hires": {"strength": 0.45},
        "refiner": {"model": "xl-refiner", "start": 0.7, "positive_aesthetic_score": 5},
        "style_prompt": "oil",
        "vae": "sdxl-vae-fix",
    }.items()  # fmt: skip


def test_the_passes_of_a1111_are_asked_for_again() -> None:
    extra = (
        "Denoising strength: 0.55, Hires upscale: 1.5, Hires upscaler: Latent, VAE: kl-f8.ckpt, "
        "Refiner: xl_refiner.safetensors [7440042bbd], Refiner switch at: 0.7, Distilled CFG Scale: 3.5, Version"
    )
    found = record(parameters=A1111.replace("dusk,", "dusk <lora:ink:0.8>,").replace("Version", extra))
    assert served(found) == []
    assert (
        found.job.items()
        >= {
            "prompt": "a lighthouse at dusk <lora:ink:0.8>,\ntwo lines",
            "width": 768,
            "height": 960,
            "hires": {"strength": 0.55, "size": 568},
            "vae": "kl-f8",
            "refiner": {"model": "xl_refiner", "start": 0.7},
            "guidance": 3.5,
        }.items()
    )


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("Denoising strength: 0.6", "Denoising strength: The picture was made from an init image, which its record"),
        ("Denoising strength: 0.6, Mask blur: 4", "Mask blur: The picture was made from a picture and a mask, which"),
        (
            "Hires upscale: 2, Hires upscaler: 4x-Ultra",
            'Hires upscaler: The picture was made with an enlargement by "4x',
        ),
        ("Hires upscale: 2, Hires steps: 9", "Hires steps: The picture was made with a second pass that has steps of"),
        ("Hires upscale: 2, Hires CFG Scale: 3", "Hires CFG Scale: The picture was made with a second pass that has"),
        (
            'ControlNet 0: "Module: canny, Model: control_canny [d14c016b], Weight: 1"',
            'ControlNet 0: The picture was made from a picture that is followed by "control_canny", which its record',
        ),
        ("Face restoration: GFPGAN", "Face restoration: The picture was made with face restoration, which is not"),
    ],
)
def test_what_a_text_of_a1111_does_not_tell_is_named(extra: str, told: str) -> None:
    [problem] = served(record(parameters=A1111.replace("Version", f"{extra}, Version")))
    assert problem.startswith(told)


def test_a_noise_that_2_3_shaped_is_asked_for_again() -> None:
    shaped = {"perlin": 0.2, "threshold": 3.5, "h_symmetry_time_pct": 0.4}
    image = {**SD_METADATA["image"], **shaped, "variations": [{"seed": 1, "weight": 0.1}, {"seed": 2, "weight": 0.3}]}
    found = record(sd_metadata={**SD_METADATA, "image": image})
    assert problems(found) == []
    assert found.job.items() >= {**shaped, "variation": {"with": [[1, 0.1], [2, 0.3]]}}.items()


def test_knobs_of_invokeai_3_and_later_are_asked_for_again() -> None:
    knobs = {"clip_skip": 2, "cfg_rescale_multiplier": 0.7, "seamless_x": True}
    found = record(invokeai_metadata={**INVOKEAI, **knobs, "seamless_y": False})
    assert problems(found) == []
    assert found.job.items() >= knobs.items()
    assert "seamless_y" not in found.job


def test_a1111_counts_the_layer_that_is_always_left_out() -> None:
    extra = "Clip skip: 2, Tiling: True, Variation seed: 7, Variation seed strength: 0.25, Version"
    found = record(parameters=A1111.replace("Version", extra))
    assert problems(found) == []
    expected = {"clip_skip": 1, "seamless_x": True, "seamless_y": True, "variation": {"with": [[7, 0.25]]}}
    assert found.job.items() >= expected.items()
    assert "clip_skip" not in record(parameters=A1111.replace("Version", "Clip skip: 1, Version")).job


def test_the_init_image_of_2_3_is_the_one_of_its_command() -> None:
    image = {**SD_METADATA["image"], "type": "img2img", "strength_steps": 0.6, "orig_hash": "ab12"}
    told = problems(record(sd_metadata={**SD_METADATA, "image": image}))[0]
    assert told == (
        "image.type: The picture was made from an init image with the sha256 ab12, which its record does not hold. "
        'Write a job with [init] image = "…", strength = 0.6.'
    )
    dream = "a lighthouse -s 30 -I /home/them/photo.png -A k_euler_a -M mask.png -f 0.6"
    found = record(sd_metadata={**SD_METADATA, "image": image}, Dream=dream)
    assert served(found) == []
    assert (
        found.job.items()
        >= {
            "prompt": "a lighthouse at dusk",
            "init": {"image": "/home/them/photo.png", "strength": 0.6, "fit": False},
            "mask": {"image": "mask.png"},
        }.items()
    )
    high = record(sd_metadata={**SD_METADATA, "image": {**image, "hires_fix": True}}, Dream=dream)
    assert served(high) == []
    assert (high.job["hires"], high.job.get("init")) == ({"strength": 0.75}, None)


def test_what_2_3_did_to_finished_pictures_is_named() -> None:
    image = {**SD_METADATA["image"], "facetool_strength": 0.8, "upscale": [2, 0.75]}
    assert problems(record(sd_metadata={**SD_METADATA, "image": image})) == [
        "image.facetool_strength: The picture was made with face restoration, which is not supported yet.",
        "image.upscale: The picture was made with upscaling, which is not supported yet.",
    ]


def test_the_most_telling_chunk_counts() -> None:
    own = {"model": {"name": "demo"}, "image": {"prompt": "ours"}, "meta": {}}
    assert record(parameters=A1111, invokeai_metadata=INVOKEAI, Dream="a cat").writer == "invokeai"
    assert record(parameters=A1111, invokeai_daemon=own).writer == "invokeai-daemon"


def test_a_damaged_record_is_one_problem() -> None:
    assert problems(record(invokeai_metadata="{")) == [
        "The invokeai record is damaged: JSONDecodeError: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)."
    ]
    assert "KeyError: 'positive_prompt'" in problems(record(invokeai_metadata={}))[0]
    assert "damaged: RecursionError" in problems(record(sd_metadata="[" * 100_000))[0]


def test_a_record_cannot_smuggle_other_keys_into_a_job() -> None:
    image = {"prompt": "", "negative_prompt": "", "width": 64, "height": 64, "steps": 1, "cfg_scale": 1.0}
    own = {"model": {"name": "demo"}, "image": {**image, "scheduler": "euler", "seed": 1}}
    found = record(invokeai_daemon={**own, "meta": {"priority": 1000, "x-a": 1, "meta": {"b": 2}}})
    carried = {key: value for key, value in found.job.items() if key in ("priority", "x-a", "meta")}
    assert carried == {"x-a": 1, "meta": {"b": 2}}


@given(
    st.sampled_from(["invokeai_daemon", "invokeai_metadata", "sd-metadata"]),
    st.dictionaries(st.sampled_from(sorted({*INVOKEAI, *SD_METADATA, "meta"})), values, max_size=6),
    st.dictionaries(st.sampled_from(sorted({*INVOKEAI, *SD_METADATA["image"]})), values, max_size=6),
)
@settings(deadline=None, max_examples=200)
def test_records_of_any_shape_become_a_job_or_problems(name: str, extra: dict[str, Any], image: dict[str, Any]) -> None:
    whole = {**(SD_METADATA if name == "sd-metadata" else INVOKEAI), **extra}
    whole["image"] = {**SD_METADATA["image"], **image}
    found = record_of_chunks({name: json.dumps(whole)}, "drop.png")
    assert found is not None
    if not found.problems:
        parse_job(job_of_record(found).encode(), "f")
