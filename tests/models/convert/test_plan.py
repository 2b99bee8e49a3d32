"""A conversion is planned from the header alone; what keeps a file from being converted is named, all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.errors import IncompleteModel, ModelError
from invokeai_daemon.models.convert import plan_conversion
from invokeai_daemon.models.header import TensorInfo, read_header
from invokeai_daemon.models.identity import Identity
from tests.models.convert import small
from tests.models.convert.small import SD1


def complaint(path: Path, tensors: small.Tensors) -> str:
    with pytest.raises(IncompleteModel) as error:
        plan_conversion(small.header(path, tensors), SD1)
    return str(error.value)


def test_every_tensor_arrives_under_its_new_name_with_its_bytes(tmp_path: Path) -> None:
    source = small.write(tmp_path / "cat.safetensors")
    plan_conversion(read_header(source), SD1).execute(tmp_path / "folder")
    before = small.contents(source)
    for part, file in zip(small.PARTS, ("unet", "vae", "text_encoder"), strict=True):
        (written,) = (tmp_path / "folder" / file).glob("*.safetensors")
        after = small.contents(written)
        assert after.keys() == {rename.target for rename in part.renames()}
        for rename in part.renames():
            assert after[rename.target] == before[small.prefix_of(part) + rename.source]


def test_convolutions_of_the_vae_s_attention_become_matrices_of_the_same_bytes(tmp_path: Path) -> None:
    tensors, name = small.tensors_of(), "first_stage_model.encoder.mid.attn_1.q.weight"
    tensors[name] = ("F16", (8, 8, 1, 1))
    source = small.write(tmp_path / "cat.safetensors", tensors)
    plan_conversion(read_header(source), SD1).execute(tmp_path / "folder")
    after = small.contents(tmp_path / "folder/vae/diffusion_pytorch_model.safetensors")
    dtype, shape, content = after["encoder.mid_block.attentions.0.to_q.weight"]
    assert (dtype, shape, content) == ("F16", (8, 8), small.contents(source)[name][2])


def test_each_tensor_keeps_its_dtype_and_lies_on_a_multiple_of_its_size(tmp_path: Path) -> None:
    tensors = small.tensors_of()
    for place, name in enumerate(tensors):
        tensors[name] = (("F16", "F32", "BF16")[place % 3], tensors[name][1])
    source = small.write(tmp_path / "cat.safetensors", {"odd": ("F16", (3,)), **tensors})
    plan_conversion(read_header(source), SD1).execute(tmp_path / "folder")
    for written in (tmp_path / "folder").rglob("*.safetensors"):
        for info in read_header(written).tensors.values():
            assert info.file_offset % {"F16": 2, "BF16": 2, "F32": 4}[info.dtype] == 0
    text = small.contents(tmp_path / "folder/text_encoder/model.safetensors")
    name = "encoder.layers.0.mlp.fc1.weight"
    assert text[f"text_model.{name}"] == small.contents(source)[small.prefix_of(small.CLIP) + name]


def test_text_encoders_of_early_trainers_that_dropped_the_inner_name_are_understood(tmp_path: Path) -> None:
    tensors = {
        name.replace(".transformer.text_model.", ".transformer."): value for name, value in small.tensors_of().items()
    }
    plan_conversion(small.header(tmp_path / "cat.safetensors", tensors), SD1).execute(tmp_path / "folder")
    names = small.contents(tmp_path / "folder/text_encoder/model.safetensors")
    assert names.keys() == {rename.target for rename in small.CLIP.renames()}


def test_a_file_without_a_vae_is_recognised_but_incomplete(tmp_path: Path) -> None:
    said = complaint(tmp_path / "cat.safetensors", small.tensors_of((small.UNET, small.CLIP)))
    assert "cat.safetensors: recognised but incomplete: no vae (first_stage_model.… is not in the file)" in said


def test_all_missing_parts_and_tensors_are_named_at_once(tmp_path: Path) -> None:
    tensors = small.tensors_of((small.UNET, small.CLIP))
    lost = [name for name in tensors if name.startswith("model.diffusion_model.output_blocks.")][:5]
    kept = {name: value for name, value in tensors.items() if name not in lost}
    said = complaint(tmp_path / "cat.safetensors", kept)
    total = len(list(small.UNET.renames()))
    assert f"unet: 5 of {total} tensors are missing: {lost[0]}, {lost[1]}, {lost[2]} and 2 more; no vae" in said


def test_a_missing_tensor_on_which_the_layout_rests_is_named(tmp_path: Path) -> None:
    tensors = small.tensors_of()
    del tensors["first_stage_model.decoder.conv_in.weight"]
    said = complaint(tmp_path / "cat.safetensors", tensors)
    assert "vae: first_stage_model.decoder.conv_in.weight, which tells its layout, is missing" in said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (("F16", (8, 8)), "has shape [8, 8], expected [64, 64]"),
        (("F16", (4096,)), "has shape [4096], expected [64, 64]"),
        (("I8", (64, 64)), "is stored as I8; only F64, F32, F16, BF16 can be rendered"),
    ],
)
def test_a_tensor_that_cannot_be_used_is_named_with_what_was_expected(
    tmp_path: Path, value: tuple[str, tuple[int, ...]], expected: str
) -> None:
    name = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    said = complaint(tmp_path / "cat.safetensors", {**small.tensors_of(), name: value})
    assert f"text_encoder: {name} {expected}" in said


def test_a_tensor_whose_elements_do_not_lie_in_order_is_refused_with_the_reason(tmp_path: Path) -> None:
    header = small.header(tmp_path / "cat.safetensors")
    name = "first_stage_model.quant_conv.weight"
    turned = TensorInfo("F16", header.tensors[name].shape, -1, 128, "its elements do not lie in order (…)")
    with pytest.raises(IncompleteModel, match=r"quant_conv\.weight cannot be copied: its elements do not lie in order"):
        plan_conversion(replace(header, tensors={**header.tensors, name: turned}), SD1)


def test_averaged_copies_and_strangers_are_left_out_with_a_note(tmp_path: Path) -> None:
    extra: small.Tensors = {f"model_ema.block{place}": ("F16", (2,)) for place in range(3)}
    extra |= {"model.diffusion_model.fuser.weight": ("F16", (2,)), "betas": ("F32", (10,))}
    extra |= {"cond_stage_model.transformer.text_model.embeddings.position_ids": ("I64", (1, 7))}
    conversion = plan_conversion(small.header(tmp_path / "cat.safetensors", {**small.tensors_of(), **extra}), SD1)
    assert conversion.notes == (
        "3 tensors of an averaged copy (model_ema.…) left out",
        "1 tensor without a place in a sd-1 model left out: model.diffusion_model.fuser.weight",
    )


def test_a_kind_without_a_conversion_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no conversion of a cogview4 main model"):
        plan_conversion(small.header(tmp_path / "cat.safetensors"), replace(SD1, base="cogview4"))


@pytest.mark.parametrize(
    ("identity", "pipeline", "prediction"),
    [
        (SD1, "StableDiffusionPipeline", "epsilon"),
        (replace(SD1, prediction_type="v_prediction"), "StableDiffusionPipeline", "v_prediction"),
        (replace(SD1, variant="inpaint"), "StableDiffusionInpaintPipeline", "epsilon"),
    ],
)
def test_the_identity_decides_pipeline_and_prediction(
    tmp_path: Path, identity: Identity, pipeline: str, prediction: str
) -> None:
    conversion = plan_conversion(small.header(tmp_path / "cat.safetensors"), identity)
    assert conversion.configs["model_index.json"]["_class_name"] == pipeline
    assert conversion.configs["scheduler/scheduler_config.json"]["prediction_type"] == prediction


def test_progress_counts_up_to_all_bytes(tmp_path: Path) -> None:
    conversion = plan_conversion(small.header(tmp_path / "cat.safetensors"), SD1)
    told: list[tuple[int, int]] = []
    conversion.execute(tmp_path / "folder", lambda done, of: told.append((done, of)))
    assert told == sorted(told)
    assert told[-1] == (conversion.nbytes, conversion.nbytes)


def test_the_configs_are_plain_json(tmp_path: Path) -> None:
    plan_conversion(small.header(tmp_path / "cat.safetensors"), SD1).execute(tmp_path / "folder")
    index = json.loads((tmp_path / "folder/model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["safety_checker"] == [None, None]
    assert json.loads((tmp_path / "folder/unet/config.json").read_text())["cross_attention_dim"] == 64
