"""An embedding is rows of vectors of a width that a text encoder has; few tensors alone make none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.identity import Verdict
from tests.models.build import header_of

Shapes = dict[str, tuple[int, ...]]


def judged(shapes: Shapes, name: str = "cat.pt", scalars: dict[str, int | float | str] | None = None) -> Verdict:
    return judge(replace(header_of(shapes, None, scalars), path=Path(name)))


KNOWN: list[tuple[str, Shapes, str]] = [
    ("AUTOMATIC1111", {"string_to_param.*": (8, 768)}, "sd-1"),
    ("AUTOMATIC1111 sd-2", {"string_to_param.*": (4, 1024)}, "sd-2"),
    ("AUTOMATIC1111 with its token", {"string_to_param.*": (1, 768), "string_to_token.*": ()}, "sd-1"),
    ("emb_params", {"emb_params": (75, 768)}, "sd-1"),
    ("emb_params of one vector", {"emb_params": (1024,)}, "sd-2"),
    ("emb_params for CLIP-G", {"emb_params": (2, 1280)}, "sdxl"),
    ("a token", {"<cat-toy>": (768,)}, "sd-1"),
    ("a token sd-2", {"<cat-toy>": (1024,)}, "sd-2"),
    ("a token of many vectors", {"<cat-toy>": (16, 768)}, "sd-1"),
    ("several tokens", {"<s0>": (768,), "<s1>": (768,)}, "sd-1"),
    ("a token without brackets", {"ohwx": (3, 768)}, "sd-1"),
    ("sdxl", {"clip_l": (2, 768), "clip_g": (2, 1280)}, "sdxl"),
    ("sdxl by diffusers", {"text_encoders_0": (2, 768), "text_encoders_1": (2, 1280)}, "sdxl"),
    ("sdxl of CLIP-G alone", {"clip_g": (2, 1280)}, "sdxl"),
    ("sd-3", {"clip_l": (2, 768), "clip_g": (2, 1280), "t5xxl": (2, 4096)}, "sd-3"),
    ("flux", {"clip_l": (2, 768), "t5xxl": (2, 4096)}, "flux"),
    ("flux by T5", {"t5": (2, 4096)}, "flux"),
]


@pytest.mark.parametrize(("shapes", "base"), [case[1:] for case in KNOWN], ids=[case[0] for case in KNOWN])
def test_an_embedding_is_known_by_the_width_of_its_vectors(shapes: Shapes, base: str) -> None:
    verdict = judged(shapes)
    identity = verdict.identity
    assert (verdict.state, identity.type, identity.base, identity.format) == ("ok", "embedding", base, "embedding_file")
    assert any('called in prompts by its file name, "cat"' in sentence for sentence in identity.evidence)


def test_the_name_inside_is_told_where_it_differs() -> None:
    identity = judged({"string_to_param.*": (8, 768)}, "nice.pt", {"name": "easynegative"}).identity
    assert any('"nice", and by the name inside it, "easynegative"' in sentence for sentence in identity.evidence)
    identity = judged({"<cat-toy>": (768,)}, "learned_embeds.bin").identity
    assert any('"<cat-toy>"' in sentence for sentence in identity.evidence)


def test_what_else_a_vector_of_768_could_be_is_said() -> None:
    identity = judged({"<cat>": (768,)}).identity
    assert any("SDXL, SD-3 and FLUX has the same width" in sentence for sentence in identity.evidence)


def test_vectors_for_clip_l_alone_are_taken_for_flux_and_marked() -> None:
    identity = judged({"clip_l": (4, 768)}).identity
    assert (identity.base, identity.assumed) == ("flux", ("base",))


def test_an_embedding_of_a_width_that_no_base_has_asks_for_a_sidecar() -> None:
    verdict = judged({"emb_params": (2, 640)})
    assert (verdict.state, verdict.identity.type) == ("unusable", "embedding")
    assert "base cannot be told" in verdict.reason


NO_EMBEDDINGS: list[tuple[str, Shapes]] = [
    ("a linear layer", {"linear.weight": (768, 768), "linear.bias": (768,)}),
    ("a score of pictures", {"weight": (1, 768), "bias": (1,)}),
    ("a layer without its bias", {"weight": (1, 768)}),
    ("one large matrix", {"latents": (4096, 768)}),
    ("a picture", {"samples": (1, 4, 64, 64)}),
    ("vectors of different widths", {"<a>": (768,), "<b>": (1024,)}),
    ("vectors of no text encoder", {"<a>": (512,)}),
    ("ten tokens", {f"<s{number}>": (768,) for number in range(10)}),
    ("a norm", {"norm.weight": (768,), "norm.bias": (768,)}),
    ("latents beside vectors", {"clip_l": (2, 768), "latent": (4, 64, 64)}),
    ("nothing", {}),
]


@pytest.mark.parametrize("shapes", [case[1] for case in NO_EMBEDDINGS], ids=[case[0] for case in NO_EMBEDDINGS])
def test_few_tensors_alone_make_no_embedding(shapes: Shapes) -> None:
    assert judged(shapes).identity.type != "embedding"
