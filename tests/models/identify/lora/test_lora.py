"""What a LoRA is, from its names and shapes alone: base x dialect x kind of change x what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.identity import Verdict
from tests.models.identify.lora import trainers as by
from tests.models.identify.lora.architectures import DENOISERS, denoiser, encoder
from tests.models.identify.lora.trainers import Shapes, header_of

Make = Callable[[], Shapes]

SD = by.sgm((False, True, True, True))
XL = by.sgm((True, True, False))


def judged(shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "F16") -> Verdict:
    return judge(header_of(shapes, metadata, dtype))


def unet(name: str, *words: str) -> list[by.Module]:
    modules = by.matrices(denoiser(name))
    return by.only(modules, *words) if words else modules


def attention(name: str) -> list[by.Module]:
    return [(module, shape) for module, shape in by.linear(denoiser(name)) if "attn" in module]


def text(name: str) -> list[by.Module]:
    return by.only(by.matrices(encoder(name)), "self_attn", "mlp", "SelfAttention", "DenseReluDense")


class Case(NamedTuple):
    """A file that a trainer writes, and what it is."""

    title: str
    base: str
    dialect: str
    make: Make
    variant: str | None = None


KINDS: dict[str, Callable[[tuple[int, ...]], Shapes]] = {
    "lora": by.lora,
    "tucker": by.tucker,
    "dora": by.dora,
    "loha": by.loha,
    "loha tucker": by.loha_tucker,
    "lokr w w": by.lokr("w", "w"),
    "lokr w ab": by.lokr("w", "ab"),
    "lokr ab w": by.lokr("ab", "w"),
    "lokr ab ab": by.lokr("ab", "ab"),
    "lokr w t": by.lokr("w", "t"),
    "lokr ab t": by.lokr("ab", "t"),
    "ia3": by.ia3,
    "full": by.full,
}


def _unets() -> Iterator[Case]:
    """Kohya and LyCORIS on the four UNets: every kind, whole and in part, under either tree of names."""
    for name, prefix, encoders in (
        ("sd-1", "lora_te_", ("clip_l",)),
        ("sd-2", "lora_te_", ("clip_h",)),
        ("sdxl", "lora_te1_ lora_te2_", ("clip_l", "clip_g")),
        ("refiner", "lora_te1_", ("clip_g",)),
    ):
        base = DENOISERS[name][0]

        def texts(
            kind: Callable[[tuple[int, ...]], Shapes], prefix: str = prefix, of: tuple[str, ...] = encoders
        ) -> Shapes:
            made: Shapes = {}
            for each, tower in zip(prefix.split(), of, strict=True):
                made |= by.kohya(text(tower), kind, each)
            return made

        rename = by.sgm((False, True, True, False)) if name == "refiner" else XL if name == "sdxl" else SD
        for title, kind in KINDS.items():
            yield Case(f"{name} {title}", base, "kohya", lambda n=name, k=kind: by.kohya(attention(n), k, "lora_unet_"))
            yield Case(
                f"{name} {title} original names",
                base,
                "kohya",
                lambda n=name, k=kind, r=rename: by.kohya(attention(n), k, "lora_unet_", r),
            )
            yield Case(
                f"{name} {title} with text",
                base,
                "kohya",
                lambda n=name, k=kind, t=texts: {**by.kohya(attention(n), k, "lora_unet_"), **t(k)},
            )
        yield Case(
            f"{name} every layer",
            base,
            "kohya",
            lambda n=name, t=texts: {**by.kohya(unet(n), by.lora, "lora_unet_"), **t(by.lora)},
        )
        yield (
            Case(
                f"{name} convolutions",
                base,
                "kohya",
                lambda n=name: by.kohya(by.convolutions(denoiser(n)), by.loha, "lora_unet_"),
            )
            if name in ("sdxl", "refiner")
            else Case(f"{name} attn2", base, "kohya", lambda n=name: by.kohya(unet(n, "attn2"), by.lora, "lora_unet_"))
        )
        yield Case(
            f"{name} lycoris", base, "lycoris", lambda n=name: by.kohya(attention(n), KINDS["lokr w ab"], "lycoris_")
        )
        yield Case(f"{name} peft", base, "peft", lambda n=name: by.written(attention(n), by.peft, "unet."))
        yield Case(
            f"{name} peft dora",
            base,
            "peft",
            lambda n=name: by.written(attention(n), by.peft_dora, "base_model.model.unet."),
        )
        yield Case(
            f"{name} base_model", base, "peft", lambda n=name: by.written(attention(n), by.peft, "base_model.model.")
        )
        yield Case(f"{name} bare", base, "peft", lambda n=name: by.written(attention(n), by.peft, ""))
        yield Case(f"{name} named adapter", base, "peft", lambda n=name: by.written(attention(n), by.named, "unet."))
        yield Case(
            f"{name} parameters", base, "peft", lambda n=name: by.written(attention(n), by.bare_parameters, "unet.")
        )
        yield Case(f"{name} old diffusers", base, "diffusers", lambda n=name: by.old_diffusers(attention(n)))
        yield Case(
            f"{name} comfyui",
            base,
            "comfyui",
            lambda n=name, r=rename: by.written(attention(n), by.lora, "diffusion_model.", r),
        )


def _texts() -> Iterator[Case]:
    """Only text encoders: told where the trainer's numbering leaves one base."""
    yield Case("lora_te_ clip-l", "sd-1", "kohya", lambda: by.kohya(text("clip_l"), by.lora, "lora_te_"))
    yield Case("lora_te_ clip-h", "sd-2", "kohya", lambda: by.kohya(text("clip_h"), by.lora, "lora_te_"))
    yield Case(
        "lora_te_ clip-l lokr", "sd-1", "kohya", lambda: by.kohya(text("clip_l"), KINDS["lokr ab ab"], "lora_te_")
    )
    yield Case(
        "lora_te_ clip-l ia3",
        "sd-1",
        "kohya",
        lambda: by.kohya(by.only(text("clip_l"), "k_proj", "fc2"), by.ia3, "lora_te_"),
    )
    yield Case("lora_te2_ t5", "flux", "kohya", lambda: by.kohya(text("t5"), by.lora, "lora_te2_"))
    yield Case(
        "lora_te3_ t5 with te1",
        "sd-3",
        "kohya",
        lambda: {
            **by.kohya(text("clip_l"), by.lora, "lora_te1_"),
            **by.kohya(text("t5"), by.lora, "lora_te3_"),
            **by.kohya(unet("sd-3 medium", "transformer_blocks.3."), by.lora, "lora_unet_"),
        },
        "medium",
    )


PARTS = {
    "all": unet,
    "attention": attention,
    "feed-forward": lambda name: by.only(by.linear(denoiser(name)), "ff", "mlp", "feed_forward"),
}
VARIANTS = {
    "sd-3 medium": "medium",
    "sd-3.5 medium": "medium",
    "sd-3.5 large": "large",
    "flux2 klein 4b": "klein_4b",
    "flux2 klein 9b": "klein_9b",
    "flux2 dev": "dev",
    "wan 14b": "a14b",
    "wan 5b": "5b",
}


def _transformers() -> Iterator[Case]:
    """Everything after the UNets, under diffusers' names in four dialects."""
    names = [name for name in DENOISERS if not name.startswith(("sd-1", "sd-2", "sdxl", "refiner"))]
    for name in names:
        base, variant = DENOISERS[name][0], VARIANTS.get(name)
        for title, part in PARTS.items():
            if not part(name):
                continue
            yield Case(
                f"{name} peft {title}",
                base,
                "peft",
                lambda n=name, p=part: by.written(p(n), by.peft, "transformer."),
                variant,
            )
        yield Case(f"{name} kohya", base, "kohya", lambda n=name: by.kohya(unet(n), by.lora, "lora_unet_"), variant)
        yield Case(
            f"{name} lycoris",
            base,
            "lycoris",
            lambda n=name: by.kohya(by.linear(unet(n)), KINDS["lokr w w"], "lycoris_"),
            variant,
        )
        yield Case(
            f"{name} onetrainer",
            base,
            "onetrainer",
            lambda n=name: by.kohya(unet(n), by.lora, "lora_transformer_"),
            variant,
        )


#: What shares all its layers with another base: told as assumed.
ALIKE = {"chroma peft attention", "chroma peft feed-forward"}
#: What shares what was trained, and the number of blocks, with an unrelated model: left open.
OPEN = {"pixart peft attention": "sana", "ltx-video peft feed-forward": "anima"}

CASES = [*_unets(), *_texts(), *_transformers()]


def test_there_are_hundreds_of_cases() -> None:
    assert len(CASES) > 300
    assert len({case.title for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_lora_is_told_from_names_and_shapes(case: Case) -> None:
    verdict = judged(case.make())
    identity = verdict.identity
    assert (identity.type, identity.format) == ("lora", "lycoris")
    if case.title in ALIKE:
        assert (identity.base, identity.assumed) == ("flux", ("base",))
        return
    if case.title in OPEN:
        assert identity.base == "unknown"
        assert case.base in identity.evidence[-1] and OPEN[case.title] in identity.evidence[-1]
        return
    assert (identity.base, identity.variant, identity.dialect) == (case.base, case.variant, case.dialect)
    assert verdict.state == "ok"
