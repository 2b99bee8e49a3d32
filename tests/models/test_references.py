"""Which registered model a job means by a name, and what is said where none fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.errors import ModelMissing
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.references import UnfitReference, encoder_for, fits, only, reference
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.root import Root
from tests.models.convert import small


@pytest.fixture
def registry(root: Root) -> Registry:
    return Registry(root)


def add(registry: Registry, root: Root, name: str, type: str = "lora", base: str = "sd-1", **more: Any) -> str:
    path = root.autoimport / more.pop("file", f"{name}.safetensors")
    path.touch()
    return registry.add(Entry(name, str(path), "lycoris", type, base, source=str(path), **more))


def test_a_name_means_the_model_of_the_type_that_is_asked_for(registry: Registry, root: Root) -> None:
    add(registry, root, "ink", "main", file="ink.ckpt")
    add(registry, root, "ink-2", file="ink.safetensors", hash="blake3:abcdef99")
    add(registry, root, "ink-scenery", hash="blake3:12345678")
    for asked in ("ink", "INK-2", "ink.safetensors", "ink-2.safetensors", "abcdef", "blake3:abcdef99"):
        assert reference(registry, "lora", asked, "sd-1").name == "ink-2", asked
    assert reference(registry, "lora", "ink-s", "sd-1").name == "ink-scenery"


def test_of_two_that_begin_so_the_one_that_fits_the_model_is_meant(registry: Registry, root: Root) -> None:
    add(registry, root, "ink-small")
    add(registry, root, "ink-large", base="sdxl")
    assert reference(registry, "lora", "ink", "sdxl").name == "ink-large"
    add(registry, root, "ink-wide", base="sdxl")
    with pytest.raises(UnfitReference, match='"ink" fits several models: ink-large, ink-wide'):
        reference(registry, "lora", "ink", "sdxl")


def test_a_name_that_nothing_has_may_still_come(registry: Registry, root: Root) -> None:
    add(registry, root, "scenery")
    with pytest.raises(ModelMissing, match=r'No LoRA is called "scenary"\. Did you mean "scenery"\?'):
        reference(registry, "lora", "scenary", "sd-1")


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"status": "rejected", "reason": "it is cut off"}, UnfitReference, "ink cannot be used: it is cut off"),
        ({"status": "unusable", "reason": "it is quantised"}, UnfitReference, "ink cannot be used: it is quantised"),
        ({"status": "unusable", "needs": ("drop its encoder",)}, ModelMissing, "cannot be used: drop its encoder"),
        ({"base": "sdxl"}, UnfitReference, "ink is a LoRA for sdxl models; the job's model is of base sd-1"),
    ],
)
def test_what_is_here_and_cannot_be_used_says_why(
    registry: Registry, root: Root, more: dict[str, Any], error: type[Exception], says: str
) -> None:
    add(registry, root, "ink", **more)
    with pytest.raises(error, match=says):
        reference(registry, "lora", "ink", "sd-1")


def test_a_refiner_must_be_one(registry: Registry, root: Root) -> None:
    add(registry, root, "xl", "main", "sdxl")
    with pytest.raises(UnfitReference, match="xl is a model of base sdxl; this takes one of base sdxl-refiner"):
        reference(registry, "main", "xl", "sdxl-refiner")


def test_a_file_that_is_gone_may_come_back(registry: Registry, root: Root) -> None:
    add(registry, root, "ink")
    (root.autoimport / "ink.safetensors").unlink()
    with pytest.raises(ModelMissing, match="is not there"):
        reference(registry, "lora", "ink", "sd-1")


def test_vaes_serve_all_models_with_the_same_latents() -> None:
    assert fits("vae", "sd-1", "sd-2")
    assert fits("vae", "sdxl", "sdxl-refiner")
    assert not fits("vae", "sd-1", "sdxl")
    assert not fits("lora", "sd-1", "sd-2")


def test_what_nobody_names_is_the_first_of_its_type_or_a_sentence(registry: Registry, root: Root) -> None:
    with pytest.raises(UnfitReference) as caught:
        only(registry, "clipseg")
    assert "CIDAS/clipseg-rd64-refined" in caught.value.message
    add(registry, root, "two", "clipseg", "any")
    add(registry, root, "one", "clipseg", "any")
    assert only(registry, "clipseg").name == "one"


def encoder(registry: Registry, root: Root, name: str, hidden: int, projection: int) -> None:
    folder = root.models / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden, "projection_dim": projection}))
    registry.add(Entry(name, str(folder), "diffusers", "clip_vision", "any", source=str(folder)))


def adapter(registry: Registry, path: Path, layer: str, width: int) -> Entry:
    small.write(path, {layer: ("F16", (8, width)), "ip_adapter.1.to_k_ip.weight": ("F16", (8, 768))})
    registry.add(Entry(path.stem, str(path), "checkpoint", "ip_adapter", "sd-1", source=str(path)))
    found = registry.get(path.stem)
    assert found is not None
    return found


def test_an_ip_adapter_gets_the_encoder_whose_width_it_takes(registry: Registry, root: Root) -> None:
    """One that sees a picture as a whole takes the projection, one that sees its parts the hidden states."""
    encoder(registry, root, "vit-h", 1280, 1024)
    encoder(registry, root, "vit-g", 1664, 1280)
    whole = adapter(registry, root.autoimport / "whole.safetensors", "image_proj.proj.weight", 1280)
    parts = adapter(registry, root.autoimport / "parts.safetensors", "image_proj.proj_in.weight", 1280)
    assert encoder_for(registry, whole).name == "vit-g"
    assert encoder_for(registry, parts).name == "vit-h"
    odd = adapter(registry, root.autoimport / "odd.safetensors", "image_proj.proj.weight", 99)
    with pytest.raises(UnfitReference, match="looks at pictures through an image encoder; none that fits is here"):
        encoder_for(registry, odd)
    unknown = adapter(registry, root.autoimport / "unknown.safetensors", "something.else", 99)
    with pytest.raises(UnfitReference) as caught:
        encoder_for(registry, unknown)
    assert caught.value.hint == "Name one with image_encoder."
