"""What a job says about pictures made from pictures: `[init]`, `[mask]`, `[outpaint]` and what goes with them."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from invokeai_daemon.job.schema.words import Fraction, Name, PicturePath, Size, Steps, Table, Text
from invokeai_daemon.strict_toml import Mistake, show


class Init(Table):
    """The picture that is changed: img2img, and with `[mask]` inpainting."""

    synonyms: ClassVar[dict[str, str]] = {
        "img": "image",
        "file": "image",
        "init_img": "image",
        "init_image": "image",
        "denoise": "strength",
        "denoising_strength": "strength",
    }

    image: PicturePath = Field(description="the picture to start from")
    strength: Fraction = Field(0.75, description="how much of it is made anew: 0 nothing, 1 everything")
    fit: bool = Field(True, description="scale it to fit into width × height; false keeps its own size")
    color_match: bool = Field(False, description="give the result the colours of the init image")
    image_guidance_scale: float = Field(
        1.5, ge=1, le=20, description="for models that edit by instruction: how closely to follow the picture"
    )
    depth: PicturePath | None = Field(
        None, description="for depth models: a depth map, bright is near; without it depth is estimated"
    )


class Mask(Table):
    """Which part of the init image is painted anew. Black is painted, white is kept, as in InvokeAI."""

    synonyms: ClassVar[dict[str, str]] = {
        "init_mask": "image",
        "mask_image": "image",
        "text_mask": "text",
        "invert_mask": "invert",
    }

    image: PicturePath | None = Field(None, description="black is painted, white is kept; or what is transparent")
    text: Text | None = Field(None, description="what is painted, in words; needs a CLIPSeg model")
    threshold: Fraction = Field(0.5, description="how sure the text's part must be, 0 to 1")
    invert: bool = Field(False, description="paint what would be kept")
    grow: int = Field(0, ge=-512, le=512, description="pixels by which the painted part grows; less than 0 shrinks it")
    blur: int = Field(8, ge=0, le=512, description="pixels over which old and new are blended at the border")
    color_correct: bool = Field(True, description="the new part is brought to the colours of what is kept")
    paste_back: bool = Field(True, description="what is kept is taken from the init image, bit for bit")
    width: Size | None = Field(None, description="paint at this size, then scale back")
    height: Size | None = Field(None, description="paint at this size, then scale back")

    @model_validator(mode="after")
    def _one_source(self) -> Mask:
        if self.image is not None and self.text is not None:
            raise Mistake("image and text both say what is painted.", "Keep one of them.")
        if (self.width is None) != (self.height is None):
            raise Mistake("width and height go together.", "Give both, or neither.")
        return self


def _extent(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= 16384:
            raise Mistake(f"{value} is out of range.", "Use 0 to 16384 pixels.")
        return value
    share = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", value) if isinstance(value, str) else None
    if share is None or float(share[1]) > 400:
        raise Mistake(f"{show(value)} is no extent.", 'Write pixels, 128, or a share of that side, "25%".')
    return value


#: Pixels, or a share of the side that grows: "25%".
Extent = Annotated[int | str, BeforeValidator(_extent)]


class Outpaint(Table):
    """How far the init image is extended on each side."""

    left: Extent = Field(0, description='pixels, or a share of the width: "25%"')
    right: Extent = Field(0, description='pixels, or a share of the width: "25%"')
    top: Extent = Field(0, description='pixels, or a share of the height: "25%"')
    bottom: Extent = Field(0, description='pixels, or a share of the height: "25%"')


def _color(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise Mistake(f"{show(value)} is no colour.", 'Write it as "#7f7f7f".')
    return value


class Infill(Table):
    """What transparent parts are filled with before they are painted."""

    method: Literal["patchmatch", "tile", "solid", "cv2", "mosaic", "lama"] = Field(
        "patchmatch", description="how transparent parts are filled before they are painted"
    )
    color: Annotated[str, BeforeValidator(_color)] = Field("#7f7f7f", description="of method solid")
    tile_size: int = Field(32, ge=8, le=512, description="pixels, of method tile")


class Seam(Table):
    """A second pass over the border between old and new; its size 0 leaves it out."""

    size: int = Field(96, ge=0, le=1024, description="width of the border that is painted again, in pixels")
    blur: int = Field(16, ge=0, le=512, description="pixels")
    strength: Fraction = Field(0.7, description="how much of it is made anew")
    steps: Steps = Field(30, description="denoising steps of this pass")


class Hires(Table):
    """A picture larger than the model's own size, in two passes: made small, enlarged, and refined."""

    strength: Fraction = Field(0.75, description="how much the second pass makes anew")
    size: Size | None = Field(
        None, description="side of the squares that the model was trained on; its own if not given"
    )


class Refiner(Table):
    """SDXL's refiner, which makes the last part of the run."""

    synonyms: ClassVar[dict[str, str]] = {"refiner_model": "model", "refiner_start": "start", "name": "model"}

    model: Name = Field(description="a model of base sdxl-refiner in models.yaml")
    start: Fraction = Field(0.8, description="where in the run the refiner takes over, 0 to 1")
    positive_aesthetic_score: float = Field(6.0, ge=1, le=10, description="of what is wanted, on LAION's scale")
    negative_aesthetic_score: float = Field(2.5, ge=1, le=10, description="of what is not")
