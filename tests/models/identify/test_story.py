"""A model is what its keys and shapes say; near misses are named, and a sidecar decides only what facts leave open."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.errors import AmbiguousModel, UnknownModel
from invokeai_daemon.models.identify import FAMILIES, identify, judge
from invokeai_daemon.models.identify.deciding import decide
from invokeai_daemon.models.identify.table import Family, has
from invokeai_daemon.models.identify.weights import Weights
from invokeai_daemon.models.identity import BASES, TYPES
from invokeai_daemon.models.sidecar import Sidecar
from tests.models.build import header_of, sd_1, write_checkpoint, write_safetensors

Shapes = dict[str, Sequence[int]]

CATS = Family("embedding", "sd-1", "a cat", marks=(has("<cat>", called="a cat"),))

UNET = "model.diffusion_model."
TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def says(**words: object) -> Sidecar:
    return Sidecar.model_validate(words)


# SD-1


def test_an_sd_1_checkpoint_is_known_with_its_evidence() -> None:
    identity = identify(header_of(sd_1()))
    assert (identity.type, identity.base, identity.format) == ("main", "sd-1", "checkpoint")
    assert (identity.variant, identity.prediction_type) == ("normal", "epsilon")
    evidence = "\n".join(identity.evidence)
    for fact in ("original Stable Diffusion", "is a convolution", "context width 768", "input channels 4"):
        assert fact in evidence


def test_nine_input_channels_are_an_inpainting_model() -> None:
    identity = identify(header_of(sd_1(channels=9)))
    assert (identity.base, identity.variant) == ("sd-1", "inpaint")


@pytest.mark.parametrize("width", [32, 64, 768, 2000])
def test_any_width_is_sd_1_when_its_own_text_encoder_has_it(width: int) -> None:
    assert identify(header_of(sd_1(context=width, text=width))).base == "sd-1"


def test_the_text_encoder_may_have_the_older_key_names() -> None:
    shapes = sd_1(context=64, text=None)
    shapes["cond_stage_model.transformer.embeddings.token_embedding.weight"] = (49408, 64)
    assert identify(header_of(shapes)).base == "sd-1"


def test_without_a_text_encoder_the_width_must_be_768() -> None:
    assert identify(header_of(sd_1(text=None))).base == "sd-1"
    with pytest.raises(UnknownModel) as caught:
        identify(header_of(sd_1(context=640, text=None)))
    assert caught.value.nearest[0][0] == "sd-1 main"
    assert "context width 640, not 768" in caught.value.nearest[0][1]


def test_averaged_weights_and_merged_leftovers_do_not_change_what_it_is() -> None:
    shapes = sd_1() | {"model_ema.diffusion_modelout2weight": (4, 320, 3, 3), "lora_te_x.lora_down.weight": (4, 768)}
    assert identify(header_of(shapes)).base == "sd-1"


def test_a_file_is_identified_alike_in_either_format(tmp_path: Path) -> None:
    one = identify(write_safetensors(tmp_path / "a.safetensors", sd_1()))
    assert one == identify(write_checkpoint(tmp_path / "a.ckpt", sd_1()))


def test_what_nothing_in_the_file_tells_is_marked_as_assumed() -> None:
    assert identify(header_of(sd_1())).assumed == ("prediction_type",)


@pytest.mark.parametrize(
    ("shapes", "metadata", "sidecar"),
    [
        (sd_1() | {"v_pred": ()}, {}, None),
        (sd_1(), {"modelspec.prediction_type": "v"}, None),
        (sd_1(), {}, says(prediction_type="v_prediction")),
        (sd_1(), {"modelspec.prediction_type": "epsilon"}, says(prediction_type="v_prediction")),
    ],
)
def test_v_prediction_is_found_where_it_is_said(
    shapes: Shapes, metadata: Mapping[str, str], sidecar: Sidecar | None
) -> None:
    identity = identify(header_of(shapes, metadata), sidecar)
    assert identity.prediction_type == "v_prediction"
    assert identity.assumed == ()
    assert any("v_pred" in fact or "prediction_type" in fact for fact in identity.evidence)


# Other kinds

OPEN_CLIP = {"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (1024,)}
LINEAR = {f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320)}
SIZES = {f"{UNET}label_emb.0.0.weight": (1280, 2816)}
CONDITIONER = {"conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": (49408, 768)}
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SDXL = sd_1(2048, text=None) | SIZES | CONDITIONER
LORA = {f"{KOHYA}.lora_down.weight": (8, 768), f"{KOHYA}.lora_up.weight": (320, 8), f"{KOHYA}.alpha": ()}

#: What it is: keys and shapes, type, base.
OTHERS: dict[str, tuple[Shapes, str, str]] = {
    "SD-2": (sd_1(1024, text=None) | LINEAR | OPEN_CLIP, "main", "sd-2"),
    "SD-2 depth": (sd_1(1024, channels=5, text=None) | LINEAR | OPEN_CLIP, "main", "sd-2"),
    "SDXL": (SDXL, "main", "sdxl"),
    "a LoRA of kohya": (LORA, "lora", "sd-1"),
    "an embedding of many vectors": ({"<cat>": (16, 1024)}, "embedding", "sd-2"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_every_room_is_asked(what: str) -> None:
    shapes, kind, base = OTHERS[what]
    verdict = judge(header_of(shapes))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", kind, base)
    assert verdict.identity.evidence


# What is near


@pytest.mark.parametrize(
    ("shapes", "family", "why"),
    [
        (sd_1(channels=7), "sd-1 main", "has input channels 7, not 4 or 9"),
        (sd_1(context=64, text=32), "sd-1 main", "has context width 64, and"),
        (sd_1() | {f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320)}, "sd-1 main", "is not a convolution"),
        (sd_1() | {f"{UNET}label_emb.0.0.weight": (1280, 2816)}, "sd-1 main", "vector of sizes"),
        (sd_1(1024, text=None) | {"conditioner.embedders.0.x": (1,)}, "sd-2 main", "text encoders of SDXL"),
    ],
)
def test_a_near_miss_is_named_with_the_fact_that_ruled_it_out(shapes: Shapes, family: str, why: str) -> None:
    verdict = judge(header_of(shapes))
    assert verdict.state == "unknown"
    assert why in dict(verdict.nearest)[family]
    assert family in verdict.reason
    assert verdict.identity.type == "unknown"


def test_the_nearest_comes_first() -> None:
    assert judge(header_of(sd_1(channels=7))).nearest[0][0] == "sd-1 main"


def test_keys_of_no_known_kind_are_counted() -> None:
    shapes = {f"layer.{number}.weight": (10, 10, 3) for number in range(20)}
    with pytest.raises(UnknownModel, match=r"20 tensors: layer\.0, "):
        identify(header_of(shapes))


def test_an_empty_file_of_weights_is_of_no_known_kind() -> None:
    assert judge(header_of({})).state == "unknown"


def test_hostile_key_names_are_shown_harmlessly() -> None:
    verdict = judge(
        header_of({f"{UNET}input_blocks.0.0.weight": (1, 4), "\x1b[2J\n" + "x" * 500 + ".attn2.to_k": (1,)})
    )
    assert verdict.reason.isprintable()
    assert len(verdict.reason) < 2000


@pytest.mark.parametrize("name", [TO_K, f"{UNET}input_blocks.0.0.weight", f"{UNET}input_blocks.1.1.proj_in.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 2, 3, 4, 5)])
def test_deciding_tensors_of_impossible_shapes_give_a_verdict(name: str, shape: tuple[int, ...]) -> None:
    assert judge(header_of(sd_1() | {name: shape})).state in ("unknown", "ok")


@pytest.mark.parametrize(("shapes", "state"), [(sd_1(), "unusable"), ({"odd.weight": (1,)}, "unknown")])
def test_a_shard_alone_is_said_to_be_one(shapes: Shapes, state: str) -> None:
    header = replace(header_of(shapes), path=Path("model-00002-of-00003.safetensors"))
    verdict = judge(header)
    assert verdict.state == state
    assert "shard 2 of 3 of a model. Drop the folder" in verdict.reason
    assert judge(replace(header, path=Path("model-00001-of-00001.safetensors"))).state in ("ok", "unknown")


# Sidecars and hints


def test_a_tie_is_an_error_that_names_the_candidates_until_a_sidecar_or_a_hint_settles_it() -> None:
    tied = header_of({"<cat>": (4, 768)})
    one, other = (replace(family, type=type_) for family, type_ in ((CATS, "embedding"), (CATS, "hypernetwork")))
    matches = [family.held_against(Weights(tied)) for family in (one, other)]
    with pytest.raises(AmbiguousModel, match="Say which in a sidecar") as caught:
        decide("x", Weights(tied), matches, None, None)
    assert caught.value.candidates == ("sd-1 embedding", "sd-1 hypernetwork")
    for said in (says(type="hypernetwork"), None):
        hint = None if said else "hypernetwork"
        assert decide("x", Weights(tied), matches, said, hint).identity.type == "hypernetwork"


def test_what_a_type_goes_before_gives_way() -> None:
    assert identify(header_of(sd_1() | LORA)).type == "main"


def test_a_hint_never_overrules_facts() -> None:
    assert identify(header_of(sd_1()), hint="lora").type == "main"
    assert identify(header_of(LORA), hint="sdxl/lora").base == "sd-1"


def test_a_hint_gives_a_base_that_the_file_leaves_open() -> None:
    text_encoder_alone = header_of(
        {"lora_te_text_model_x.lora_down.weight": (4, 5), "lora_te_x.lora_up.weight": (5, 4)}
    )
    verdict = judge(text_encoder_alone)
    assert (verdict.state, verdict.identity.base) == ("unusable", "unknown")
    assert 'Say it in a sidecar: a file of the same name ending in .toml with base = "' in verdict.reason
    identity = identify(text_encoder_alone, hint="sdxl/lora")
    assert (identity.base, identity.assumed) == ("sdxl", ())
    assert "the folder in which it lies says sdxl" in identity.evidence


def test_a_sidecar_overrules_what_only_convention_says() -> None:
    odd = header_of(sd_1(context=640, text=None))
    assert identify(odd, says(type="main", base="sd-1")).base == "sd-1"


def test_a_sidecar_wins_over_the_shapes_which_are_told() -> None:
    identity = identify(header_of(SDXL), says(type="main", base="sd-1"))
    assert identity.base == "sd-1"
    assert any(
        fact.startswith("its sidecar says sd-1 main, but it has the text encoders of SDXL")
        for fact in identity.evidence
    )


def test_a_sidecar_gives_a_base_that_the_family_does_not_know() -> None:
    identity = identify(header_of(LORA), says(type="lora", base="kolors"))
    assert (identity.type, identity.base) == ("lora", "kolors")
    assert any("says base kolors, but the file says sd-1" in fact for fact in identity.evidence)


def test_a_sidecar_that_nothing_in_the_file_supports_is_believed_but_not_used() -> None:
    verdict = judge(header_of({"strange.weight": (3, 3)}), says(type="hypernetwork", base="sd-1"))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("unusable", "hypernetwork", "sd-1")
    assert "its sidecar says hypernetwork" in verdict.reason


def test_a_sidecar_that_only_names_the_model_changes_nothing() -> None:
    assert identify(header_of(sd_1()), says(name="cat")) == identify(header_of(sd_1()))


def test_a_sidecar_with_another_variant_wins_and_is_noted() -> None:
    identity = identify(header_of(sd_1()), says(variant="inpaint"))
    assert identity.variant == "inpaint"
    assert any("says variant inpaint, but the file says normal" in fact for fact in identity.evidence)


def test_nothing_depends_on_the_order_of_keys_or_rows() -> None:
    shuffle = random.Random(7)
    for shapes in (sd_1() | LORA, SDXL, LORA, sd_1(channels=7), {"<cat>": (4, 768)}):
        told = set()
        for _ in range(5):
            keys, rows = list(shapes), list(FAMILIES)
            shuffle.shuffle(keys)
            shuffle.shuffle(rows)
            weights = Weights(header_of({key: shapes[key] for key in keys}))
            matches = [family.held_against(weights) for family in rows]
            try:
                finding = decide("x", weights, matches, None, None)
                told.add((finding.identity, finding.nearest, finding.unusable))
            except UnknownModel as error:
                told.add((str(error), error.nearest, ""))
        assert len(told) == 1


# The table


def test_every_row_has_words_that_exist() -> None:
    for family in FAMILIES:
        assert family.name and family.marks
        assert family.type in TYPES
        assert family.bases <= {*BASES, "unknown"}, family.name


def test_a_verdict_never_raises_for_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"<html>")
    verdict = judge(tmp_path / "x.ckpt")
    assert (verdict.state, verdict.identity.type) == ("rejected", "unknown")
    assert "a web page" in verdict.reason
