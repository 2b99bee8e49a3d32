"""Processors: what each makes of pictures whose right answer is known, and depth as transformers itself says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from invokeai_daemon.engine.processors import PROCESSORS, processed
from invokeai_daemon.engine.processors.depth import load_estimator
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.processors import BY_NAME
from invokeai_daemon.job.processors import PROCESSORS as TABLE
from invokeai_daemon.models.identify import judge
from tests.engine.build_controls import picture

#: A white square on black: its first and last pixels.
FIRST, LAST = 20, 79


def made(shown: Image.Image, name: str, **options: Any) -> npt.NDArray[np.uint8]:
    """What a processor makes with its usual options but for these, grey."""
    usual = {key: option.default for key, option in BY_NAME[name].options.items()}
    return np.asarray(processed(shown, name, {**usual, **options}).convert("L"))


@pytest.fixture
def square() -> Image.Image:
    shown = Image.new("RGB", (100, 100))
    ImageDraw.Draw(shown).rectangle((FIRST, FIRST, LAST, LAST), fill="white")
    return shown


def border(reach: int) -> npt.NDArray[np.bool_]:
    """The pixels of the square's border, and those that are so many from it."""
    outer, inner = (np.zeros((100, 100), bool) for _ in range(2))
    outer[FIRST - reach : LAST + reach + 1, FIRST - reach : LAST + reach + 1] = True
    inner[FIRST + reach + 1 : LAST - reach, FIRST + reach + 1 : LAST - reach] = True
    return outer & ~inner


def test_every_processor_of_the_table_is_made_and_keeps_the_size() -> None:
    assert {each.name for each in TABLE if not each.model} == set(PROCESSORS)
    shown = picture(1, 90, 60)
    for name in PROCESSORS:
        usual = {key: option.default for key, option in BY_NAME[name].options.items()}
        result = processed(shown, name, usual)
        assert (result.size, result.mode) == ((90, 60), "RGB"), name
        assert (np.array_equal(np.asarray(result), np.asarray(shown))) == (name in ("none", "tile")), name


@pytest.mark.parametrize(
    ("name", "reach", "options"),
    [
        ("canny", 1, {}),
        ("line_drawing", 4, {}),
        ("scribble", 6, {"thickness": 5}),
        ("soft_edges", 6, {}),
        ("line_segments", 2, {}),
    ],
)
def test_lines_are_where_the_edges_are(square: Image.Image, name: str, reach: int, options: dict[str, int]) -> None:
    lines = made(square, name, **options) > 127
    assert lines.any()
    assert not (lines & ~border(reach)).any()
    # Every row that crosses the square crosses two lines.
    assert all(lines[row, :50].any() and lines[row, 50:].any() for row in range(FIRST + 8, LAST - 8))


def test_a_flat_picture_has_no_lines() -> None:
    flat = Image.new("RGB", (64, 64), (90, 120, 30))
    for name in ("canny", "line_drawing", "scribble", "soft_edges", "line_segments"):
        assert made(flat, name).max() == 0, name


def test_weak_edges_count_where_the_thresholds_are_low() -> None:
    faint = Image.new("RGB", (64, 64), (100, 100, 100))
    ImageDraw.Draw(faint).rectangle((16, 16, 48, 48), fill=(120, 120, 120))
    assert made(faint, "canny").max() == 0
    assert made(faint, "canny", low_threshold=10, high_threshold=30).max() == 255


def test_a_colour_map_has_the_mean_colour_of_each_block() -> None:
    shown = picture(1, 64, 64)
    blocks = np.asarray(processed(shown, "color_map", {"tile_size": 16}), dtype=int)
    expected = np.asarray(shown, dtype=float).reshape(4, 16, 4, 16, 3).mean(axis=(1, 3))
    assert np.abs(blocks[::16, ::16] - expected).max() <= 1
    assert np.array_equal(blocks, blocks[::16, ::16].repeat(16, axis=0).repeat(16, axis=1))


def test_shuffling_keeps_the_colours_and_loses_the_places(square: Image.Image) -> None:
    one, again, other = (made(square, "content_shuffle", scale_factor=32, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert {0, 255} <= set(np.unique(one))
    assert (one != np.asarray(square.convert("L"))).mean() > 0.1


def test_a_tile_loses_detail_and_blurs_have_their_radius(square: Image.Image) -> None:
    checks = Image.fromarray((np.indices((64, 64)).sum(axis=0) // 2 % 2 * 255).astype(np.uint8))
    assert np.ptp(made(checks, "tile", down_sampling_rate=4.0)) <= 2
    row = made(square, "blur", radius=3.0, blur_type="box")[50].astype(int)
    assert [row[FIRST - 4], row[FIRST + 3]] == [0, 255]
    assert list(np.diff(row[FIRST - 4 : FIRST + 4])) == pytest.approx([255 / 7] * 7, abs=1)


def test_brightness_is_turned_cut_and_stretched() -> None:
    ramp = Image.fromarray(np.tile(np.arange(50, 200, dtype=np.uint8), (10, 1)))
    assert np.array_equal(made(ramp, "invert"), 255 - np.asarray(ramp))
    assert np.array_equal(made(ramp, "binarize", threshold=100), np.where(np.asarray(ramp) >= 100, 255, 0))
    stretched = made(ramp, "brightness")
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_normals_say_which_way_a_slope_faces() -> None:
    nearer_to_the_right = Image.fromarray(np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1)))
    red, green, blue = np.asarray(processed(nearer_to_the_right, "normal_from_depth", {"strength": 10.0}))[50, 50]
    assert red < 64 and green in (127, 128) and blue > 128
    red, green, blue = np.asarray(processed(nearer_to_the_right.rotate(90), "normal_from_depth", {"strength": 10.0}))[
        50, 50
    ]
    assert red in (127, 128) and green < 64 and blue > 128


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Depth Anything of random weights."""
    folder = tmp_path_factory.mktemp("models") / "depth"
    torch.manual_seed(1)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=56,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 56, "width": 56}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def test_depth_is_what_transformers_says_of_it(estimator: Path) -> None:
    assert (judge(estimator).state, judge(estimator).identity.type) == ("ok", "depth_estimator")
    loaded = load_estimator(estimator, torch.device("cpu"))
    shown = picture(1, 80, 60)
    with torch.inference_mode():
        said = loaded.model(loaded.preparing(images=shown, return_tensors="pt").pixel_values)
    [near] = loaded.preparing.post_process_depth_estimation(said, [(60, 80)])
    near = near["predicted_depth"].numpy()
    expected = (near - near.min()) / (near.max() - near.min()) * 255
    depth = loaded.depth(shown)
    assert (depth.size, depth.mode) == ((80, 60), "L")
    assert np.abs(np.asarray(depth) - expected).max() <= 1


def test_distances_are_turned_round(estimator: Path) -> None:
    loaded = load_estimator(estimator, torch.device("cpu"))
    # Let it say distances of about five metres.
    last = loaded.model.head.conv3
    with torch.inference_mode():
        pixels = loaded.preparing(images=picture(1), return_tensors="pt").pixel_values
        last.weight.data /= 2 * loaded.model(pixels).predicted_depth.std()
        last.bias.data.fill_(5.0)
    near, far = (replace(loaded, says_distance=said).depth(picture(1)) for said in (False, True))
    assert np.corrcoef(np.asarray(near).ravel(), np.asarray(far).ravel())[0, 1] < -0.9


def test_half_of_a_depth_model_says_what_is_missing(estimator: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((estimator / "config.json").read_bytes())
    with pytest.raises(RenderError, match=r"it has no preprocessor_config\.json"):
        load_estimator(tmp_path, torch.device("cpu"))
