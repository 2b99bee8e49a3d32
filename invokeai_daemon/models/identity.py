"""Identity: what a model file is, in InvokeAI's words and values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Identity:
    """What a model is. Every word is one of InvokeAI's enumerations."""

    #: main, lora, embedding, vae, controlnet, … or unknown
    type: str
    #: sd-1, sd-2, sdxl, … or unknown
    base: str
    #: checkpoint, diffusers, lycoris, … or unknown
    format: str
    #: normal, inpaint, depth; None where the type has no variants
    variant: str | None = None
    #: epsilon, v_prediction, sample; None where the type predicts nothing
    prediction_type: str | None = None
    #: The facts that decided, as sentences: "model.diffusion_model.… has context width 768".
    evidence: tuple[str, ...] = ()
    #: What was taken for granted because no fact decides it: "prediction_type".
    assumed: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """How an intake ended: `ok`, `unknown` (a weight file of no known kind) or `rejected` (broken or unsafe)."""

    state: str
    identity: Identity
    #: One sentence for the log and the status screen.
    reason: str = ""
    #: The families that came close, each with the fact that ruled it out.
    nearest: tuple[tuple[str, str], ...] = field(default=())
