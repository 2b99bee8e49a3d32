"""An image as its records tell of it: models by their names, pictures by where their copies lie in the root.

Called by the writers of the text chunks. A path of the user's never comes through here, and whoever reads the record
can make the picture again: the copies stay beside the results.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any, TypeVar

from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.schema import ControlNet, IPAdapter, Lora, T2IAdapter, Table

#: The folder of a root that holds the results.
OUTPUTS = "outputs"

T = TypeVar("T", bound=Table)
Adapter = TypeVar("Adapter", Lora, ControlNet, T2IAdapter, IPAdapter)


def recorded(plan: Plan, image: Image) -> Image:
    """The image with the names that its models have in the registry, and its pictures in `outputs/<job>/`."""
    return replace(
        image,
        vae=image.vae and _name(plan, "vae", image.vae),
        loras=_all(plan, image.loras, "lora"),
        controlnets=_all(plan, image.controlnets, "controlnet"),
        t2i_adapters=_all(plan, image.t2i_adapters, "t2i_adapter"),
        ip_adapters=_all(plan, image.ip_adapters, "ip_adapter"),
        init=image.init and _with_pictures(plan, image.init, "image", "depth"),
        init_color=image.init_color and picture(plan, image.init_color),
        mask=image.mask and _with_pictures(plan, image.mask, "image"),
        refiner=image.refiner and _changed(image.refiner, model=_name(plan, "main", image.refiner.model)),
    )


def picture(plan: Plan, asked: str) -> str:
    """Where the copy of a picture lies, relative to the root; for one without a copy the mere name."""
    copy = plan.find_input(asked)
    return f"{OUTPUTS}/{plan.job_id}/{copy.file}" if copy else PurePath(asked).name


def references(plan: Plan) -> list[dict[str, Any]]:
    """The other models that the plan uses, with their hashes."""
    return [described(each) for each in plan.references]


def inputs(plan: Plan) -> list[dict[str, Any]]:
    """The pictures that the plan uses, with their hashes."""
    return [
        {"name": PurePath(each.asked).name, "file": picture(plan, each.asked), "hash": each.hash}
        for each in plan.inputs
    ]


def described(model: ModelRef) -> dict[str, Any]:
    """All of a model but its folder, which is nobody else's business."""
    return {key: value for key, value in asdict(model).items() if key not in ("path", "asked")}


def _name(plan: Plan, type: str, asked: str) -> str:
    model = plan.find_reference(type, asked)
    return model.name if model else asked


def _all(plan: Plan, adapters: tuple[Adapter, ...], type: str) -> tuple[Adapter, ...]:
    return tuple(_attached(plan, each, type) for each in adapters)


def _attached(plan: Plan, adapter: Adapter, type: str) -> Adapter:
    """An adapter by its name in the registry, with its picture, and the encoder of its picture, where it has them."""
    named = _changed(_with_pictures(plan, adapter, "image"), name=_name(plan, type, adapter.name))
    encoder = getattr(named, "image_encoder", None)
    return _changed(named, image_encoder=_name(plan, "clip_vision", encoder)) if encoder else named


def _with_pictures(plan: Plan, table: T, *keys: str) -> T:
    asked = {key: getattr(table, key, None) for key in keys}
    return _changed(table, **{key: picture(plan, path) for key, path in asked.items() if path})


def _changed(table: T, **values: Any) -> T:
    return table.model_copy(update=values) if values else table
