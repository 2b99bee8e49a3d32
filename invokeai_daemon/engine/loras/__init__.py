"""LoRAs and their kin: LoRA, LoCon, LoHa, LoKr, IA3, Full, Norm and DoRA, worn by the models of a pipeline.

`worn_by` says what an image asks for, the pipeline's `Wardrobe` has it at hand and puts it on and off.
"""

from __future__ import annotations

from invokeai_daemon.engine.loras.wardrobe import Outfit, Wardrobe
from invokeai_daemon.engine.loras.worn import Worn, worn_by

__all__ = ["Outfit", "Wardrobe", "Worn", "worn_by"]
