"""The tables of modules agree with the architectures themselves."""

from __future__ import annotations

import pytest

from invokeai_daemon.models.identify.lora.layers import Measure
from invokeai_daemon.models.identify.lora.modules import Architecture, candidates, every
from invokeai_daemon.models.identify.lora.text import PLACES, TOWERS
from invokeai_daemon.models.identify.lora.voting import ARCHITECTURES, nets, towers
from invokeai_daemon.models.identity import BASES
from tests.models.identify.lora import architectures as real
from tests.models.identify.lora.trainers import matrices, norms, sgm

#: Convolutions of groups, which no LoRA changes.
LEFT_OUT = {"sana": ("conv_depth",)}


def fitting(module: str, shape: tuple[int, ...]) -> list[Architecture]:
    measure = Measure(shape[0], shape[1] if len(shape) > 1 else 0, len(shape) > 2)
    mask = candidates(nets(), module.replace(".", "_"), measure)
    return [ARCHITECTURES[number] for number in every(mask or 0)]


@pytest.mark.parametrize("name", real.DENOISERS)
def test_every_layer_of_an_architecture_is_in_its_table(name: str) -> None:
    base = real.DENOISERS[name][0]
    modules = matrices(real.denoiser(name))
    assert modules
    for module, shape in modules:
        if not any(word in module for word in LEFT_OUT.get(name, ())):
            assert base in {architecture.base for architecture in fitting(module, shape)}, (module, shape)


@pytest.mark.parametrize(
    ("name", "attends"),
    [
        ("sd-1", (False, True, True, True)),
        ("sd-2", (False, True, True, True)),
        ("sdxl", (True, True, False)),
        ("refiner", (False, True, True, False)),
    ],
)
def test_a_unet_is_in_its_table_under_its_original_names_and_with_its_norms(
    name: str, attends: tuple[bool, ...]
) -> None:
    base, rename = real.DENOISERS[name][0], sgm(attends)
    modules = real.denoiser(name)
    assert norms(modules)
    for module, shape in modules:
        for spelled in (module, rename(module)):
            assert base in {architecture.base for architecture in fitting(spelled, shape)}, (spelled, shape)


@pytest.mark.parametrize("name", ["clip_l", "clip_h", "clip_g", "t5"])
def test_every_layer_of_a_text_encoder_is_in_its_table(name: str) -> None:
    for module, shape in matrices(real.encoder(name)):
        spelled = module.removeprefix("text_model.").replace(".", "_")
        if "relative_attention_bias" in spelled or "embed" in spelled:
            continue
        mask = candidates(towers(), spelled, Measure(shape[0], shape[1], False))
        assert name in {TOWERS[number].base for number in every(mask or 0)}, (module, shape)


def test_the_tables_speak_of_bases_that_identities_know() -> None:
    assert {architecture.base for architecture in ARCHITECTURES} <= set(BASES)
    assert {base for place in PLACES.values() for bases in place.values() for base in bases} <= set(BASES)
    towers_named = {tower.base for tower in TOWERS}
    assert {tower for place in PLACES.values() for tower in place} <= towers_named
