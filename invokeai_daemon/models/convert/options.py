"""Options: what may be chosen about a conversion. Made by the importer from the settings and a model's companions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Dtype = Literal["keep", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class ConvertOptions:
    #: Take the averaged weights (`model_ema.…`) where a file has them.
    use_ema: bool = False
    #: What the weights are stored as.
    dtype: Dtype = "keep"
    #: A file with the VAE to use instead of the model's own, usually its same-stem companion.
    vae: Path | None = None
    #: The model's same-stem `.yaml`, in the original code's words.
    config: Path | None = None
    #: Where further parts come from, by their name in model_index.json ("text_encoder_3"): a weight file in one of the
    #: part's layouts, or a folder with the part as diffusers has it, which is copied.
    parts: Mapping[str, Path] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, Path]:
        """Every part that comes from elsewhere, with the file or folder it comes from."""
        return dict(self.parts) if self.vae is None else {**self.parts, "vae": self.vae}
