"""The table of processors: which counts for a model, other programs' names, and all mistakes with their lines."""

from __future__ import annotations

from typing import Any

import pytest

from invokeai_daemon.job.processors import BY_NAME, NOT_YET, PROCESSORS, canonical, problems, settled, usual
from invokeai_daemon.job.schema import ControlNet, T2IAdapter


def asked(**words: Any) -> ControlNet:
    return ControlNet(name="net", image="photo.png", **words)


@pytest.mark.parametrize(
    ("model", "processor"),
    [
        ("control_v11p_sd15_canny", "canny"),
        ("control_v11f1p_sd15_depth", "depth_anything"),
        ("controlnet-depth-zoe-sdxl", "depth_anything"),
        ("control_v11p_sd15_lineart", "line_drawing"),
        ("control_v11p_sd15_softedge", "soft_edges"),
        ("control_v11p_sd15_mlsd", "line_segments"),
        ("control_v11e_sd15_shuffle", "content_shuffle"),
        ("t2iadapter_color_sd14v1", "color_map"),
        ("control_v11f1e_sd15_tile", "tile"),
        ("Control_Scribble", "scribble"),
        ("control_v11p_sd15_openpose", "dw_openpose"),
        ("control_v11p_sd15_normalbae", "normalbae"),
        ("qr-codes", "none"),
    ],
)
def test_the_name_of_a_model_says_what_its_pictures_are(model: str, processor: str) -> None:
    assert usual(model) == processor


def test_a_setting_counts_more_than_a_name_and_a_job_more_than_both() -> None:
    assert usual("control-canny", "color_map_image_processor") == "color_map"
    assert settled(asked(), "control-canny", "color_map").processor == "color_map"
    assert settled(asked(processor="none"), "control-canny", "color_map").processor == "none"


def test_names_of_invokeai_are_known() -> None:
    assert canonical("canny_image_processor") == canonical("canny_edge_detection") == "canny"
    assert canonical("depth_anything_depth_estimation") == "depth_anything"
    assert {canonical(near) for near in NOT_YET.values() if near} <= set(BY_NAME)


def test_a_settled_table_has_all_options_and_settles_to_itself() -> None:
    once = settled(asked(processor="canny-edge-detection", processor_options={"low_threshold": 50}), "net")
    assert once.processor_options == {"low_threshold": 50, "high_threshold": 200}
    assert settled(once, "net") == once
    assert settled(T2IAdapter(name="a", image="b"), "sketch").processor == "soft_edges"


def test_the_usual_options_are_without_mistakes() -> None:
    for each in PROCESSORS:
        assert not list(problems(settled(asked(processor=each.name), "net"), "controlnets[0]")), each.name


def test_every_mistake_is_told_with_its_line() -> None:
    options = {"low_threshold": 300, "high_threshold": 1.5, "sigma": 1}
    wrong = settled(asked(processor="canny", processor_options=options), "net")
    found = list(problems(wrong, "controlnets[1]", {"controlnets[1]": 7, "controlnets[1].processor_options.sigma": 9}))
    assert [str(each) for each in found] == [
        "line 7: controlnets[1].processor_options.low_threshold: 300 is not between 0 and 255. "
        "Edges weaker than this are none; usually 100.",
        "line 7: controlnets[1].processor_options.high_threshold: 1.5 is no whole number. "
        "Edges stronger than this are certain; usually 200.",
        'line 9: controlnets[1].processor_options.sigma: "sigma" is no option of processor canny. '
        "It has low_threshold, high_threshold.",
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hed", 'Use "soft_edges", or make the picture elsewhere and set processor = "none".'),
        ("openpose", 'Use another one, or make the picture elsewhere and set processor = "none".'),
        ("cany", 'Did you mean "canny"?'),
    ],
)
def test_a_processor_that_is_not_there_is_told_with_what_to_do(name: str, sentence: str) -> None:
    [problem] = problems(settled(asked(processor=name), "net"), "controlnets[0]")
    assert (problem.key, problem.hint) == ("controlnets[0].processor", sentence)


def test_words_and_switches_are_checked() -> None:
    [problem] = problems(settled(asked(processor="blur", processor_options={"blur_type": "motion"}), "net"), "x")
    assert problem.message == '"motion" is none of gaussian, box.'
    [problem] = problems(settled(asked(processor="scribble", processor_options={"thickness": True}), "net"), "x")
    assert problem.message == "true is no whole number."
