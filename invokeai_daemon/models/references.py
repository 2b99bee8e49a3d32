"""References: which registered model a job means by the name of a LoRA, a ControlNet, a VAE, …, and whether it fits.

Called by the planner. A name that nothing has may still come, so the job waits; what is here and does not fit will not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from invokeai_daemon.errors import ModelMissing
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.encoders import fitting
from invokeai_daemon.models.entries.entry import Entry
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.strict_toml import nearest, show

#: What people call the models of a type, with an article, and the folder to drop one into.
WORDS = {
    "lora": ("a LoRA", "autoimport/lora/"),
    "controlnet": ("a ControlNet", "autoimport/controlnet/"),
    "t2i_adapter": ("a T2I-Adapter", "autoimport/controlnet/"),
    "ip_adapter": ("an IP-Adapter", "autoimport/controlnet/"),
    "clip_vision": ("an image encoder", "autoimport/controlnet/"),
    "vae": ("a VAE", "autoimport/vae/"),
    "embedding": ("an embedding", "autoimport/embedding/"),
    "main": ("a main model", "autoimport/main/"),
    "clipseg": ("a CLIPSeg model (CIDAS/clipseg-rd64-refined)", "autoimport/"),
    "depth_estimator": ("a depth model (Depth Anything)", "autoimport/"),
}
#: Models of these types serve every base.
_FOR_ANY = frozenset({"clip_vision"})
#: Bases whose VAEs serve each other.
_SAME_LATENTS = ({"sd-1", "sd-2"}, {"sdxl", "sdxl-refiner"})
#: Words of a message that lists names.
MOST_LISTED = 5


class UnfitReference(Exception):
    """What a name means is here and does not fit; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


def fits(type: str, base: str, main_base: str) -> bool:
    """Whether a model of a type and base can go with a main model of a base."""
    if base in ("any", main_base) or type in _FOR_ANY:
        return True
    return type == "vae" and any({base, main_base} <= bases for bases in _SAME_LATENTS)


def reference(registry: Registry, type: str, asked: str, main_base: str) -> Entry:
    """The model that a job means by a name. Raises ModelMissing when it may still come, else UnfitReference."""
    found = registry.of_type(asked, type)
    if not found:
        raise _absent(registry, type, asked, main_base)
    fitting = [entry for entry in found if fits(type, entry.base, main_base)] or found
    if len(fitting) > 1:
        names = ", ".join(entry.name for entry in fitting[:MOST_LISTED])
        raise UnfitReference(f"{show(asked)} fits several models: {names}.", "Write more of the name.")
    (entry,) = fitting
    if entry.status == "missing" or (entry.status == "unusable" and entry.needs):
        raise ModelMissing(f"{_the(type)} {entry.name} cannot be used: {_why(entry)}.")
    if entry.status != "ok":
        raise UnfitReference(f"{entry.name} cannot be used: {_why(entry)}.", _others(registry, type, main_base))
    if not fits(type, entry.base, main_base):
        message = f"{entry.name} is {WORDS[type][0]} for {entry.base} models; the job's model is of base {main_base}."
        if type == "main":
            message = f"{entry.name} is a model of base {entry.base}; this takes one of base {main_base}."
        raise UnfitReference(message, _others(registry, type, main_base))
    return entry


def sound(registry: Registry, type: str) -> list[Entry]:
    """The models of a type that can be used, in the order of their names."""
    found = [entry for entry in registry.models() if entry.type == type and entry.status == "ok"]
    return sorted(found, key=lambda entry: entry.name)


def only(registry: Registry, type: str) -> Entry:
    """The model of a type that nobody names; the first of several. Raises UnfitReference."""
    found = sound(registry, type)
    if not found:
        what, folder = WORDS[type]
        raise UnfitReference(f"{what} is needed for this, and none is here.", f"Drop one into {folder}.")
    return found[0]


def encoder_for(registry: Registry, adapter: Entry) -> Entry:
    """The image encoder that an IP-Adapter looks through. Raises UnfitReference."""
    found = fitting(adapter, sound(registry, "clip_vision"))
    if len(found) == 1:
        return found[0]
    if not found:
        what = "; ".join(adapter.needs) or f"{adapter.name} looks at pictures through an image encoder; none that fits"
        raise UnfitReference(f"{what} is here.", "Drop it into autoimport/controlnet/.")
    names = ", ".join(entry.name for entry in found[:MOST_LISTED])
    message = f"{adapter.name} does not say which image encoder it was trained with; here are {names}."
    raise UnfitReference(message, "Name one with image_encoder.")


def reference_to(entry: Entry, asked: str = "") -> ModelRef:
    """An entry as plans name it."""
    return ModelRef(
        name=entry.name,
        path=entry.path,
        base=entry.base,
        type=entry.type,
        hash=entry.hash,
        variant=entry.variant,
        prediction_type=entry.prediction_type,
        format=entry.format,
        dialect=entry.dialect,
        asked=asked or entry.name,
    )


def is_the_same(before: ModelRef, now: ModelRef) -> bool:
    """Whether a model still is what it was; one whose content was not hashed yet is taken for it."""
    is_other = before.hash and now.hash and before.hash != now.hash
    return (before.type, before.name) == (now.type, now.name) and not is_other


def _absent(registry: Registry, type: str, asked: str, main_base: str) -> Exception:
    """Nothing of the type is called so: something of another type may be."""
    other = registry.get(asked)
    what, folder = WORDS[type]
    if other is not None and other.status in ("unknown", "rejected"):
        return UnfitReference(f"{asked} cannot be used: {_why(other)}.", _others(registry, type, main_base))
    if other is not None:
        kind = WORDS.get(other.type, (f"of type {other.type}",))[0]
        return UnfitReference(f"{show(asked)} is {kind}, not {what}.", _others(registry, type, main_base))
    meant = nearest(asked, [entry.name for entry in _fitting(registry, type, main_base)])
    hint = f"Did you mean {json.dumps(meant)}? If not, drop it" if meant else "Drop it"
    return ModelMissing(f"No {what.split(' ', 1)[1]} is called {show(asked)}. {hint} into {folder}.")


def _fitting(registry: Registry, type: str, main_base: str) -> Iterable[Entry]:
    return (
        entry
        for entry in registry.models()
        if entry.type == type and entry.status == "ok" and fits(type, entry.base, main_base)
    )


def _others(registry: Registry, type: str, main_base: str) -> str:
    names = [entry.name for entry in _fitting(registry, type, main_base)]
    if names:
        return f"Use {' or '.join(names[:MOST_LISTED])}."
    what, folder = WORDS[type]
    return f"Drop {what} for {main_base} models into {folder}, or remove it from the job."


def _the(type: str) -> str:
    return f"The {WORDS[type][0].split(' ', 1)[1]}"


def _why(entry: Entry) -> str:
    return (entry.why or "; ".join(entry.needs) or entry.status).rstrip(".")
