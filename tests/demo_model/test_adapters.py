"""What is attached to the demo model is seen in its pictures, from dropped file to PNG, and in no other picture.

`night` is a LoRA that makes every background black, `sun` an embedding that means a yellow circle.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from demo_model.recognise import recognise
from demo_model.scenes import Scene
from invokeai_daemon.root import Root

FIXTURES = Path(__file__).parent / "fixtures"
NIGHT = '[[loras]]\nname = "night"\n'
CIRCLE = 'prompt = "a red circle on a blue background"\nseed = 5\niterations = 3\n'
JOBS = {
    "plain": CIRCLE,
    "nothing": CIRCLE + NIGHT + "weight = 0",
    "half": CIRCLE + NIGHT + "weight = 0.5",
    "whole": CIRCLE + NIGHT,
    "inverse": CIRCLE + NIGHT + "weight = 1\n" + NIGHT + "weight = -1",
    "words": 'prompt = "a pink star on a yellow background withLora(night)"\nseed = 6\niterations = 3\n',
    "a1111": 'prompt = "a green moon on a white background <lora:night:1>"\nprompt_syntax = "a1111"\nseed = 7\n',
    "sun": 'prompt = "a <sun> on a blue background"\nseed = 8\niterations = 3\n',
    "weighted": 'prompt = "a (<sun>)1.2 on a red background"\nseed = 9\n',
    "at-night": 'prompt = "a <sun> on a green background"\nseed = 10\n' + NIGHT,
    "moon": 'prompt = "a yellow moon"\nseed = 11\niterations = 2\n',
    "no-sun": 'prompt = "a yellow moon"\nnegative_prompt = "<sun>"\nseed = 11\niterations = 2\n',
    "partly": CIRCLE + '[[loras]]\nname = "partly"\n',
    "unfit": CIRCLE + '[[loras]]\nname = "unfit"\n',
    # Begun when all others are done.
    "again": CIRCLE + "priority = -1",
}


def lay_out(root: Root) -> None:
    for name, folder in (("night", "lora"), ("sun", "embedding")):
        for file in FIXTURES.glob(f"{name}.*"):
            shutil.copy(file, root.autoimport / folder)
    add_misfits(root.autoimport / "lora")


def add_misfits(folder: Path) -> None:
    """A LoRA that has a layer more than the model, and one of other sizes."""
    down, up = torch.zeros(4, 48), torch.zeros(48, 4)
    more = "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn1_to_q"
    night = load_file(FIXTURES / "night.safetensors")
    save_file({**night, f"{more}.lora_down.weight": down, f"{more}.lora_up.weight": up}, folder / "partly.safetensors")
    other = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{other}.lora_down.weight": down, f"{other}.lora_up.weight": up}, folder / "unfit.safetensors")
    for name in ("partly", "unfit"):
        (folder / f"{name}.toml").write_text('base = "sd-1"')


def pictures(outputs: Path, name: str) -> list[Image.Image]:
    return [Image.open(file) for file in sorted((outputs / name).glob("*.png"))]


def pixels(outputs: Path, name: str) -> npt.NDArray[np.int64]:
    return np.stack([np.asarray(picture).astype(np.int64) for picture in pictures(outputs, name)])


def seen(outputs: Path, name: str) -> list[Scene | None]:
    return [found.scene if (found := recognise(picture)) else None for picture in pictures(outputs, name)]


def test_a_lora_does_what_it_was_trained_for(outputs: Path) -> None:
    assert seen(outputs, "plain") == [Scene("circle", "red", "blue")] * 3
    assert seen(outputs, "whole") == [Scene("circle", "red", "black")] * 3


def test_half_of_a_lora_lies_between(outputs: Path) -> None:
    def brightness(name: str) -> float:
        """Of the background."""
        return float(pixels(outputs, name)[:, :4].mean())

    assert brightness("plain") > brightness("half") + 20 > brightness("whole") + 40


def test_nothing_of_a_lora_changes_no_bit_and_neither_do_jobs_that_wear_one(outputs: Path) -> None:
    plain = pixels(outputs, "plain")
    assert len(plain) == 3
    assert np.array_equal(pixels(outputs, "nothing"), plain)
    assert np.array_equal(pixels(outputs, "again"), plain)


def test_a_lora_and_its_inverse_cancel_out(outputs: Path) -> None:
    assert np.abs(pixels(outputs, "inverse") - pixels(outputs, "plain")).max() <= 2


def test_prompts_may_name_loras(outputs: Path) -> None:
    assert seen(outputs, "words") == [Scene("star", "pink", "black")] * 3
    assert seen(outputs, "a1111") == [Scene("moon", "green", "black")]


def test_layers_that_fit_nothing_are_told_in_the_result(outputs: Path) -> None:
    assert seen(outputs, "partly") == [Scene("circle", "red", "black")] * 3
    result = json.loads((outputs / "partly" / "result.json").read_text())
    [warning] = result["images"][0]["warnings"]
    assert warning.startswith('lora "partly": 1 of 123 layers fits nothing in this model, for instance lora_unet_up_')


def test_a_lora_of_other_sizes_fails_its_job_and_no_other(outputs: Path) -> None:
    told = (outputs.parent / "inbox" / "failed" / "unfit.error.txt").read_text()
    assert 'The LoRA "unfit" does not fit model "demo": lora_unet_mid_block_' in " ".join(told.split())
    assert {file.stem for file in (outputs.parent / "inbox" / "done").iterdir()} & set(JOBS) == set(JOBS) - {"unfit"}


def test_an_embedding_means_what_it_was_trained_for(outputs: Path) -> None:
    assert seen(outputs, "sun") == [Scene("circle", "yellow", "blue")] * 3
    assert seen(outputs, "weighted") == [Scene("circle", "yellow", "red")]
    assert seen(outputs, "at-night") == [Scene("circle", "yellow", "black")]


def test_an_embedding_in_a_negative_prompt_keeps_away(outputs: Path) -> None:
    def yellow(name: str) -> float:
        """The share of the pictures that is."""
        red, green, blue = np.moveaxis(pixels(outputs, name), -1, 0)
        return float(((red > blue + 80) & (green > blue + 80)).mean())

    assert yellow("no-sun") < 0.7 * yellow("moon")
