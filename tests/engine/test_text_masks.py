"""Words say what is painted: CLIPSeg's heat becomes a mask of the picture's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.painting import text_masks
from invokeai_daemon.engine.painting.text_masks import described, mask_of_heat, squared
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.job.schema.pictures import Init, Mask
from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.tokenizer import write_clip_tokenizer
from tests.engine.build import image
from tests.engine.drive import desk_of, drawn_picture, make


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A tiny CLIPSeg of random weights, as a folder of transformers."""
    folder = tmp_path_factory.mktemp("models") / "clipseg"
    torch.manual_seed(11)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPSegConfig(
        text_config={**tower, **ends},
        vision_config={**tower, "image_size": 64, "patch_size": 16},
        projection_dim=32,
        extract_layers=[0, 1],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    write_clip_tokenizer(folder)
    return ModelRef("clipseg", str(folder), "any", "clipseg", asked="clipseg")


def test_its_folder_is_known_and_usable(clipseg: ModelRef) -> None:
    verdict = judge(Path(clipseg.path))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "clipseg", "any")


def test_its_weights_alone_are_known_and_ask_for_the_folder(clipseg: ModelRef, tmp_path: Path) -> None:
    alone = tmp_path / "rd64.safetensors"
    alone.write_bytes((Path(clipseg.path) / "model.safetensors").read_bytes())
    verdict = judge(alone)
    assert (verdict.state, verdict.identity.type) == ("unusable", "other")
    assert "Drop the whole folder" in verdict.reason


def test_what_is_as_warm_as_the_threshold_is_painted() -> None:
    heat = np.array([[0.1, 0.5], [0.49, 0.9]], np.float32).repeat(4, 0).repeat(4, 1)
    mask = np.asarray(mask_of_heat(heat, (8, 8), 0.5))
    assert (mask[:4, :4] == 255).all() and (mask[4:, :4] == 255).all()
    assert (mask[:4, 4:] == 0).all() and (mask[4:, 4:] == 0).all()


def test_a_wide_picture_lies_in_the_upper_part_of_what_the_model_looks_at() -> None:
    square = np.asarray(squared(PIL.Image.new("RGB", (200, 100), (255, 0, 0))))
    assert square.shape == (352, 352, 3)
    assert (square[:176] == (255, 0, 0)).all()
    assert not square[176:].any()
    heat = np.zeros((352, 352), np.float32)
    heat[:176, :88] = 1
    mask = np.asarray(mask_of_heat(heat, (200, 100), 0.5))
    assert mask.shape == (100, 200)
    assert not mask[:98, :49].any() and (mask[:, 52:] == 255).all()


def test_the_heat_is_that_of_the_model_and_its_own_processing(clipseg: ModelRef) -> None:
    picture = drawn_picture(96, 64)
    heat = text_masks._heat(clipseg, picture.tobytes(), picture.size, "a circle")
    model = CLIPSegForImageSegmentation.from_pretrained(clipseg.path).eval()
    values = torch.from_numpy(np.asarray(squared(picture)).astype(np.float32) / 255).permute(2, 0, 1)
    mean, spread = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    ids = torch.full((1, 77), 49407)
    ids[0, :4] = torch.tensor([49406, 320, 7117, 49407])
    attended = (torch.arange(77) < 4).long()[None]
    with torch.inference_mode():
        told = model(input_ids=ids, attention_mask=attended, pixel_values=((values - mean) / spread)[None])
    assert np.allclose(heat, torch.sigmoid(told.logits).squeeze().numpy(), atol=1e-6)
    assert heat.std() > 0


def test_a_picture_is_painted_where_the_words_are(clipseg: ModelRef, pipeline: Pipeline, tmp_path: Path) -> None:
    init = drawn_picture()
    # Random weights see something everywhere, a little more here and there.
    heat = text_masks._heat(clipseg, init.tobytes(), init.size, "a circle")
    warm = float(np.quantile(heat, 0.999))
    is_kept = np.asarray(described(clipseg, init, "a circle", warm)) == 255
    assert 0.2 < is_kept.mean() < 1
    desk = desk_of(pipeline, tmp_path, {"init.png": init}, [clipseg])
    wanted = Mask(text="a circle", threshold=warm, grow=2)
    made, _ = make(desk, image(steps=2, init=Init(image="init.png"), mask=wanted))
    far_from_it = ~ndimage.binary_dilation(~is_kept, np.ones((5, 5)))
    assert np.array_equal(made.pixels[far_from_it], np.asarray(init)[far_from_it])
    assert not np.array_equal(made.pixels, np.asarray(init))


def test_a_folder_without_its_tokenizer_is_named(clipseg: ModelRef, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(clipseg.path) / name).read_bytes())
    with pytest.raises(ModelError, match="has no tokenizer"):
        described(ModelRef("clipseg", str(tmp_path), "any", "clipseg"), drawn_picture(), "a cat", 0.5)
