"""What may be chosen of a conversion: averaged weights, another VAE, another dtype, a `.yaml` of the original code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from invokeai_daemon.errors import IncompleteModel, UnreadableModel
from invokeai_daemon.models.convert import Conversion, ConvertOptions, convert_model, plan_conversion, read_marker
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.root import Root
from tests.models.convert import models
from tests.models.convert.models import MODELS, SD_1, VAE
from tests.models.convert.small import PARTS, contents, prefix_of, tensors_of
from tests.models.convert.small import SD1 as IDENTITY

YAML = """
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085
    scale_factor: 0.2
    unet_config:
      params: {in_channels: 4, model_channels: 8, num_heads: 4, context_dim: 64, channel_mult: [1, 2]}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.write(tmp_path / "cat.safetensors", tensors_of())


def plan(source: Path, identity: Identity = IDENTITY, **options: Any) -> Conversion:
    return plan_conversion(read_header(source), identity, ConvertOptions(**options))


def written(conversion: Conversion, folder: Path, part: str = "vae") -> Mapping[str, Any]:
    conversion.execute(folder)
    return load_file(next((folder / part).glob("*.safetensors")))


# averaged weights


def with_averages(path: Path, *, lost: int = 0) -> Path:
    tensors = tensors_of()
    unet = [name for name in tensors if name.startswith("model.diffusion_model.")]
    averages = {"model_ema." + "".join(name.split(".")[1:]): tensors[name] for name in unet[lost:]}
    return models.write(path, {**tensors, **averages, "model_ema.decay": ("F32", ())})


def test_averaged_weights_are_taken_when_they_are_asked_for(tmp_path: Path) -> None:
    source = with_averages(tmp_path / "cat.safetensors")
    conversion = plan(source, use_ema=True)
    conversion.execute(tmp_path / "folder")
    before, after = contents(source), contents(tmp_path / "folder/unet/diffusion_pytorch_model.safetensors")
    for rename in PARTS[0].renames():
        assert after[rename.target] == before["model_ema.diffusion_model" + rename.source.replace(".", "")]
    assert after != contents_of(plan(source), tmp_path / "plain")
    assert not [note for note in conversion.notes if "without a place" in note]


def contents_of(conversion: Conversion, folder: Path) -> Mapping[str, Any]:
    conversion.execute(folder)
    return contents(folder / "unet/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("lost", [None, 1])
def test_without_a_complete_copy_of_averaged_weights_the_others_are_used_and_it_is_said(
    tmp_path: Path, source: Path, lost: int | None
) -> None:
    if lost:
        source = with_averages(tmp_path / "part.safetensors", lost=lost)
    conversion = plan(source, use_ema=True)
    assert any(
        "averaged weights were asked for, and the file has no complete copy" in note for note in conversion.notes
    )
    assert contents_of(conversion, tmp_path / "ours") == contents_of(plan(source), tmp_path / "plain")


# another VAE


def vae_file(path: Path, name: str, prefix: str) -> Path:
    """A VAE of its own, other values than the model's."""
    small = replace(models.ALONE[name], prefix=prefix)
    return models.write(path, small.tensors(), seed=99)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return models.write(tmp_path / "whole.safetensors", SD_1.tensors())


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("vae", "first_stage_model."), ("vae", ""), ("diffusers vae", ""), ("old diffusers vae", ""), ("vae", "vae.")],
)
def test_the_vae_of_a_companion_replaces_the_model_s_own(tmp_path: Path, whole: Path, name: str, prefix: str) -> None:
    companion = vae_file(tmp_path / "whole.vae.safetensors", name, prefix)
    conversion = plan_conversion(read_header(whole), SD_1.identity, ConvertOptions(vae=companion))
    after, before = written(conversion, tmp_path / "folder"), load_file(companion)
    assert after.keys() == {rename.target for rename in VAE.renames()}
    np.testing.assert_array_equal(after["quant_conv.weight"], before[f"{prefix}quant_conv.weight"])
    assert conversion.notes == ("its vae is that of whole.vae.safetensors",)


def test_a_model_without_a_vae_is_whole_with_its_companion(tmp_path: Path, root: Root) -> None:
    tensors = {name: value for name, value in SD_1.tensors().items() if not name.startswith("first_stage_model.")}
    source = models.write(tmp_path / "cat.safetensors", tensors)
    with pytest.raises(IncompleteModel, match=r"no vae .* may lie beside it as cat\.vae\.safetensors") as error:
        plan_conversion(read_header(source), SD_1.identity)
    assert error.value.parts == ("vae",)
    companion = vae_file(tmp_path / "cat.vae.safetensors", "vae", "")
    options = ConvertOptions(vae=companion)
    folder = convert_model(read_header(source), SD_1.identity, root, "cat", options=options, verify=True)
    marker = read_marker(folder)
    assert marker is not None
    assert marker["options"]["parts"] == {"vae": str(companion)}
    assert [other["source"] for other in marker["others"]] == [str(companion)]
    # The same file, renamed, makes the same model; another file makes another.
    renamed = Path(shutil.copy(companion, tmp_path / "other.safetensors"))
    assert convert_model(read_header(source), SD_1.identity, root, "cat", options=ConvertOptions(vae=renamed)) == folder
    models.write(companion, read_shapes(companion), seed=3)
    assert convert_model(read_header(source), SD_1.identity, root, "cat", options=options) != folder


def read_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (info.dtype, info.shape) for name, info in read_header(path).tensors.items()}


def test_a_companion_that_is_no_vae_is_named(tmp_path: Path, whole: Path) -> None:
    companion = models.write(tmp_path / "whole.vae.safetensors", {"lora.weight": ("F16", (2, 2))})
    with pytest.raises(UnreadableModel, match=r"whole\.vae\.safetensors: has no vae in a known layout"):
        plan_conversion(read_header(whole), SD_1.identity, ConvertOptions(vae=companion))


def test_a_part_is_taken_from_the_folder_of_another_model(tmp_path: Path, whole: Path, root: Root) -> None:
    first = convert_model(read_header(whole), SD_1.identity, root, "first")
    tensors = {name: value for name, value in SD_1.tensors().items() if not name.startswith("cond_stage_model.")}
    source = models.write(tmp_path / "cat.safetensors", tensors, seed=5)
    options = ConvertOptions(parts={"text_encoder": first / "text_encoder"})
    folder = convert_model(read_header(source), SD_1.identity, root, "cat", options=options, verify=True)
    for file in ("config.json", "model.safetensors"):
        assert (folder / "text_encoder" / file).read_bytes() == (first / "text_encoder" / file).read_bytes()
    assert json.loads((folder / "model_index.json").read_text())["text_encoder"] == ["transformers", "CLIPTextModel"]


# dtypes


DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
CASTS = [("sd-1", original, dtype) for original in ("F64", "F32", "F16", "BF16") for dtype in DTYPES]


@pytest.mark.parametrize(("family", "original", "dtype"), [*CASTS, ("sdxl", "F32", "bfloat16")])
def test_weights_are_cast_as_torch_casts_them(
    tmp_path: Path, root: Root, family: str, original: str, dtype: str
) -> None:
    import torch
    from safetensors.torch import load_file as load

    small = MODELS[family].with_few_words()
    source = models.write(tmp_path / "cat.safetensors", small.tensors(original))
    kept = convert_model(read_header(source), small.identity, root, "kept")
    options = ConvertOptions(dtype=dtype)  # type: ignore[arg-type]
    folder = convert_model(read_header(source), small.identity, root, "cast", options=options, verify=True)
    assert (folder == kept) == (DTYPES[dtype] == original)
    for path in kept.rglob("*.safetensors"):
        before, after = load(path), load(folder / path.relative_to(kept))
        wanted = getattr(torch, dtype)
        assert {tensor.dtype for tensor in after.values()} == {wanted}
        assert all(torch.equal(tensor.to(wanted), after[name]) for name, tensor in before.items())


def test_values_too_large_for_the_dtype_are_counted(tmp_path: Path, root: Root) -> None:
    from safetensors.numpy import save_file

    source = models.write(tmp_path / "cat.safetensors", tensors_of(dtype="F32"))
    tensors = load_file(source)
    tensors["first_stage_model.quant_conv.bias"][:2] = 1e6
    save_file(tensors, source)
    folder = convert_model(read_header(source), IDENTITY, root, "cat", options=ConvertOptions(dtype="float16"))
    marker = read_marker(folder)
    assert marker is not None
    (note,) = marker["notes"]
    assert note.startswith("2 values of vae/diffusion_pytorch_model.safetensors became infinite: float16 is too narrow")


def test_float8_weights_are_widened_without_loss(tmp_path: Path) -> None:
    import torch

    inner = "encoder.layers.0.mlp.fc1.weight"
    name = prefix_of(PARTS[2]) + inner
    for form, kind in (("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)):
        tensors = {**tensors_of(), name: (form, (32, 64))}
        source = tmp_path / f"{form}.safetensors"
        from tests.models.convert import small

        small.write(source, tensors)
        conversion = plan(source)
        conversion.execute(tmp_path / form)
        raw = contents(source)[name][2]
        wanted = torch.frombuffer(bytearray(raw), dtype=kind).half().numpy()
        after = load_file(tmp_path / form / "text_encoder/model.safetensors")[
            "text_model.encoder.layers.0.mlp.fc1.weight"
        ]
        np.testing.assert_array_equal(after.ravel(), wanted)
        assert conversion.notes == (f"text_encoder: stored as {form}, written as F16 without loss",)


# the original code's config


def with_yaml(source: Path, text: str) -> Path:
    path = source.with_suffix(".yaml")
    path.write_text(text)
    return path


def test_a_yaml_tells_what_no_tensor_tells(source: Path) -> None:
    identity = replace(IDENTITY, assumed=("prediction_type",))
    conversion = plan(source, identity, config=with_yaml(source, YAML))
    assert conversion.identity.prediction_type == "v_prediction"
    assert conversion.identity.assumed == ()
    assert conversion.configs["scheduler/scheduler_config.json"]["prediction_type"] == "v_prediction"
    assert conversion.configs["unet/config.json"]["attention_head_dim"] == 4
    assert conversion.configs["vae/config.json"]["scaling_factor"] == 0.2
    assert conversion.notes == ()


def test_what_contradicts_the_facts_is_reported_and_not_obeyed(source: Path) -> None:
    text = YAML.replace("context_dim: 64", "context_dim: 1024").replace("num_heads: 4", "num_heads: 5")
    conversion = plan(source, config=with_yaml(source, text))
    assert conversion.identity.prediction_type == "epsilon"
    assert conversion.configs["unet/config.json"]["cross_attention_dim"] == 64
    assert conversion.configs["unet/config.json"]["attention_head_dim"] == 8
    assert conversion.notes == (
        "its .yaml says v_prediction, but it is known to be epsilon: not obeyed",
        "its .yaml says context_dim 1024, but its tensors have 64: not obeyed",
        "its .yaml says num_heads 5, into which its widths cannot be split: not obeyed",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1", "not proper YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not proper YAML"),
        ("a: &x [1, 2]\nb: *x\n", "YAML aliases"),
        ("a: " + "[" * 20_000, "too deep"),
        ("#" * 70_000, "larger than 64 KiB"),
    ],
)
def test_a_yaml_that_cannot_be_trusted_is_refused(source: Path, text: str, complaint: str) -> None:
    with pytest.raises(UnreadableModel, match=rf"cat\.yaml: .*{complaint}"):
        plan(source, config=with_yaml(source, text))


@pytest.mark.parametrize("text", ["", "- 1", "model: 3", "model: {params: {unet_config: {params: {num_heads: true}}}}"])
def test_a_yaml_that_says_nothing_changes_nothing(source: Path, text: str) -> None:
    conversion = plan(source, config=with_yaml(source, text))
    assert conversion.configs == plan(source).configs
    assert conversion.notes == ()


# what is chosen is remembered


def test_other_options_make_another_folder_and_the_same_ones_the_same(source: Path, root: Root) -> None:
    header = read_header(source)
    plain = convert_model(header, IDENTITY, root, "cat")
    cast = convert_model(header, IDENTITY, root, "cat", options=ConvertOptions(dtype="float32"))
    assert cast == plain.with_name("cat-2")
    assert convert_model(header, IDENTITY, root, "cat", options=ConvertOptions(dtype="float32")) == cast
    assert convert_model(header, IDENTITY, root, "cat", options=ConvertOptions(dtype="float16")) == plain
    marker = read_marker(cast)
    assert marker is not None
    assert marker["options"] == {"use_ema": False, "dtype": "float32", "config": None, "parts": {}}


def test_a_model_of_which_two_parts_are_elsewhere_names_both(tmp_path: Path) -> None:
    tensors = {name: value for name, value in tensors_of().items() if name.startswith("model.")}
    source = models.write(tmp_path / "unet.safetensors", tensors)
    with pytest.raises(IncompleteModel) as error:
        plan(source)
    assert error.value.parts == ("vae", "text_encoder")


def test_a_damaged_part_beside_a_missing_one_is_not_just_a_missing_one(tmp_path: Path) -> None:
    tensors = {name: value for name, value in tensors_of().items() if name.startswith(("model.", "first"))}
    del tensors["model.diffusion_model.out.2.bias"]
    source = models.write(tmp_path / "unet.safetensors", tensors)
    with pytest.raises(IncompleteModel) as error:
        plan(source)
    assert error.value.parts == ()
