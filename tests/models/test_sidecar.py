"""A sidecar is read strictly: every mistake at once, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from invokeai_daemon.errors import ModelError, SidecarError
from invokeai_daemon.models.sidecar import read_sidecar, sidecar_path


def sidecar_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "cat.toml").write_text(text)
    return tmp_path / "cat.safetensors"


def test_no_sidecar_says_nothing(tmp_path: Path) -> None:
    sidecar = read_sidecar(tmp_path / "cat.safetensors")
    assert sidecar.model_dump(exclude_none=True) == {"trigger_phrases": [], "default_settings": {}}


def test_everything_that_a_sidecar_can_say_is_read(tmp_path: Path) -> None:
    model = sidecar_of(
        tmp_path,
        """
        type = "main"
        base = "sd-1"
        variant = "inpaint"
        prediction_type = "v_prediction"
        name = "Cat"
        description = "draws cats"
        trigger_phrases = ["a cat", "kitten"]
        source_url = "https://example.org/cat"
        [default_settings]
        width = 640
        height = 512
        steps = 20
        cfg_scale = 7.5
        scheduler = "k_euler"
        negative_prompt = "dog"
        preprocessor = "canny"
        """,
    )
    sidecar = read_sidecar(model)
    assert (sidecar.name, sidecar.variant, sidecar.prediction_type) == ("Cat", "inpaint", "v_prediction")
    assert sidecar.trigger_phrases == ["a cat", "kitten"]
    assert sidecar.default_settings.model_dump() == {
        "width": 640,
        "height": 512,
        "steps": 20,
        "cfg_scale": 7.5,
        "scheduler": "euler",
        "negative_prompt": "dog",
        "weight": None,
        "preprocessor": "canny",
    }


def test_all_mistakes_are_named_with_their_lines(tmp_path: Path) -> None:
    model = sidecar_of(tmp_path, 'base = "sd1"\nnmae = "cat"\n[default_settings]\nwidth = 770\nsteps = 0\n')
    with pytest.raises(SidecarError) as caught:
        read_sidecar(model)
    assert isinstance(caught.value, ModelError)
    assert sorted(problem.line or 0 for problem in caught.value.problems) == [1, 2, 4, 5]
    text = str(caught.value)
    assert "cat.toml" in text
    assert "sd-1" in text
    assert "name" in text
    assert "768" in text


@pytest.mark.parametrize("text", ["[", "\xff\xfe", "x = 1\n" * 20_000])
def test_a_sidecar_that_is_no_toml_or_too_long_is_a_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(SidecarError):
        read_sidecar(sidecar_of(tmp_path, text))


def test_the_sidecar_lies_beside_a_file_and_beside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "dog.v1").mkdir()
    assert sidecar_path(tmp_path / "cat.v1.safetensors") == tmp_path / "cat.v1.toml"
    assert sidecar_path(tmp_path / "dog.v1") == tmp_path / "dog.v1.toml"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', "v_prediction"),
        ("model:\n  params:\n    parameterization: v  # v-prediction\n", "v_prediction"),
        ("model:\n  params:\n    parameterization: eps\n", "epsilon"),
        ("model:\n  params:\n    unet_config:\n      target: x\n", "epsilon"),
        ("model:\n  # parameterization: v\n", None),
        ("model: {}\n", None),
    ],
)
def test_the_training_config_beside_a_checkpoint_tells_the_prediction_type(
    tmp_path: Path, config: str, expected: str | None
) -> None:
    (tmp_path / "cat.yaml").write_text(config)
    assert read_sidecar(tmp_path / "cat.ckpt").prediction_type == expected


def test_what_the_sidecar_says_counts_more_than_the_training_config(tmp_path: Path) -> None:
    (tmp_path / "cat.yaml").write_text("parameterization: v\n")
    assert read_sidecar(sidecar_of(tmp_path, 'prediction_type = "epsilon"')).prediction_type == "epsilon"
