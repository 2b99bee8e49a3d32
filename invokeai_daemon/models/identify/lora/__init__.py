"""LoRA: small changes to a model, in every dialect that circulates, as rows for identification.

What a file says is worked out once (`facts`), the rows only ask: which dialect its names are written in, which kinds of
change it makes, to which parts, and for which base (`bases`). `facts_of` is open to whoever loads a LoRA.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.lora.bases import Base, base_of
from invokeai_daemon.models.identify.lora.dialects import DIALECTS, dialect_of
from invokeai_daemon.models.identify.lora.facts import LoraFacts, facts_of
from invokeai_daemon.models.identify.lora.rows import FAMILIES, only_changes
from invokeai_daemon.models.identify.lora.voting import Target

__all__ = ["DIALECTS", "FAMILIES", "Base", "LoraFacts", "Target", "base_of", "dialect_of", "facts_of", "only_changes"]
