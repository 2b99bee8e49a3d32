"""Entry: a registered model, in InvokeAI's words, and the one place that says what a job can render with today.

The importer makes entries, the registry keeps them, everybody else reads them. Never touches a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STATUSES = ("ok", "unusable", "missing", "unknown", "rejected")
#: What the engine can render from text: variants of main models, by base.
RENDERABLE = {
    "sd-1": ("normal", "inpaint"),
    "sd-2": ("normal", "inpaint"),
    "sdxl": ("normal", "inpaint"),
    "sd-3": ("normal", "medium", "large"),
    "flux": ("normal", "dev", "schnell", "dev_fill"),
}
#: Variants that were trained to paint into pictures, which others make better from text.
FOR_PAINTING = frozenset({"inpaint", "dev_fill"})
#: The same in words.
RENDERABLE_WORDS = "ordinary sd-1, sd-2, sdxl and sd-3 models, and FLUX.1 dev, schnell and Fill"
#: What the engine can render from pictures only, by base: variants of main models, and what they do.
_FROM_PICTURES = {
    "sd-1": {"edit": "changes pictures as prompts instruct"},
    "sd-2": {"depth": "makes pictures anew in their own depth"},
    "sdxl": {"edit": "changes pictures as prompts instruct"},
    "sdxl-refiner": {"normal": "finishes pictures that an sdxl model began"},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered model. Its words are InvokeAI's."""

    name: str
    #: What is rendered with: a diffusers folder, or a file used in place. Absolute; empty when there is nothing yet.
    path: str
    format: str = "unknown"
    type: str = "unknown"
    base: str = "unknown"
    variant: str | None = None
    prediction_type: str | None = None
    #: "blake3:" and hexadecimal digits, of the content of `source` (of a folder: of its weight files, by name); empty
    #: until it was computed. Two entries with one hash came from the same bytes.
    hash: str = ""
    #: The file or folder that the user gave. Absolute; empty when the entry was written by hand.
    source: str = ""
    #: ok, unusable (known, but something is missing that it needs), missing (its path is gone), unknown (no known kind)
    #: or rejected (broken or unsafe)
    status: str = "ok"
    description: str = ""
    #: Keys of a job, for jobs that do not set them.
    default_settings: Mapping[str, Any] = field(default_factory=dict)
    trigger_phrases: tuple[str, ...] = ()
    #: Why the status is not ok, or what was taken for granted: a sentence.
    reason: str = ""
    #: The model of jobs that name none (InvokeAI's `default: true`).
    default: bool = False
    #: How the keys of a LoRA are written: kohya, diffusers, peft, …; None for other types.
    dialect: str | None = None
    #: Where the model comes from.
    source_url: str = ""
    #: A picture that shows what it does: a preview beside the source, or a thumbnail. Absolute; empty for none.
    cover_image: str = ""
    #: Other files or folders with the same content as `source`. Absolute.
    aliases: tuple[str, ...] = ()
    #: What must be on this machine before the model can be used: a sentence for each missing part.
    needs: tuple[str, ...] = ()
    #: A VAE that the stanza of an older InvokeAI names: an absolute path, or owner/name of a repository.
    vae: str = ""
    #: The training config that the stanza of an older InvokeAI names. Absolute.
    config: str = ""
    #: InvokeAI's wish to keep it off the GPU; None where nobody said so.
    cpu_only: bool | None = None

    @property
    def is_renderable(self) -> bool:
        """Whether the engine can render with a main model like this one: from text, or from pictures."""
        return self.is_renderable_from_text or bool(self._deed)

    @property
    def is_renderable_from_text(self) -> bool:
        return self.type == "main" and (self.variant or "normal") in RENDERABLE.get(self.base, ())

    @property
    def why_not_from_text(self) -> str:
        """Why a job with this model needs an init image: a sentence without its name. Empty when it needs none."""
        return f"is a {self._kind} model, which {self._deed}, and makes none from text" if self._deed else ""

    @property
    def _deed(self) -> str:
        """What a model does that makes no picture from text; empty for others."""
        if self.type != "main":
            return ""
        return _FROM_PICTURES.get(self.base, {}).get(self.variant or "normal", "")

    @property
    def _kind(self) -> str:
        return " ".join(word for word in (self.base, self.variant) if word and word != "normal")

    @property
    def why(self) -> str:
        """The reason without the path of the source, for where that stands beside it."""
        return self.reason.removeprefix(f"{self.source}: ")

    @property
    def why_unfit(self) -> str:
        """Why no job can render with this model, whatever else arrives: a sentence without its name.

        Empty when a job can, and as long as it is not known what the model is.
        """
        if self.type == "unknown" or (self.type, self.base) == ("main", "unknown") or self.is_renderable:
            return ""
        if self.type != "main":
            return f"is of type {self.type}; a job needs a main model"
        return f"is a {self._kind} model, which cannot be rendered yet; {RENDERABLE_WORDS} can be rendered"

    def as_json(self) -> dict[str, Any]:
        facts = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Entry:
        """The entry that `as_json` made these facts of."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()
        }
        return cls(**fields)
