"""Dialects: whose way of writing the names of a LoRA is, told by beginnings, leaves and metadata.

The words are InvokeAI's where it has one (its FLUX dialects). A dialect says how the file must be loaded; it decides
neither base nor kind.
"""

from __future__ import annotations

from collections.abc import Mapping

from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identify.lora.facts import LoraFacts
from invokeai_daemon.models.identify.lora.voting import Target

#: Dialect -> how a sentence says it.
DIALECTS: Mapping[str, str] = {
    "kohya": "as kohya's trainers do",
    "lycoris": "as the LyCORIS library does",
    "diffusers": "as diffusers did before PEFT",
    "peft": "as PEFT and diffusers do",
    "omi": "in the format of the Open Model Initiative",
    "onetrainer": "as OneTrainer does",
    "onetrainer_bfl": "as OneTrainer does for the original names of FLUX",
    "aitoolkit": "as AI-Toolkit does",
    "xlabs": "as XLabs does",
    "control": "as Black Forest Labs' control LoRAs do",
    "bfl_peft": "as PEFT does for the original names of FLUX",
    "comfyui": "as ComfyUI does",
    "bare": "without a prefix",
}


def dialect_of(facts: LoraFacts, header: Header) -> str:
    """The dialect that most of a file's layers are written in."""
    metadata, first = header.metadata, facts.targets[0]
    prefix = facts.prefixes[0]
    original = any(
        "double_blocks" in target.place.module or "single_blocks" in target.place.module for target in facts.targets
    )
    if is_omi(metadata):
        return "omi"
    if is_control(facts) and not prefix:
        return "control"
    if original and any(".processor." in target.stem for target in facts.targets):
        return "xlabs"
    if original and prefix == "transformer." and "flux" in facts.bases:
        return "onetrainer_bfl"
    if "ai-toolkit" in metadata.get("software", ""):
        return "aitoolkit"
    if prefix == "lora_transformer_" or prefix.startswith("lora_prior_"):
        return "onetrainer"
    if prefix == "lycoris_":
        return "lycoris"
    if prefix.startswith("lora_"):
        return "kohya"
    if original and prefix in ("diffusion_model.", "base_model.model.", "") and "flux" in facts.bases:
        return "bfl_peft"
    if prefix in ("diffusion_model.", "model.diffusion_model.") or prefix.startswith("text_encoders."):
        return "comfyui"
    return _by_leaves(first, prefix, header)


def _by_leaves(first: Target, prefix: str, header: Header) -> str:
    stem = first.stem
    if any(f"{stem}.lora_A{end}" in header.tensors for end in (".weight", "", ".default.weight")):
        return "peft"
    if any(f"{stem}{middle}.down.weight" in header.tensors for middle in ("", ".lora", ".lora_linear_layer")):
        return "diffusers"
    return "peft" if prefix else "bare"


def is_omi(metadata: Mapping[str, str]) -> bool:
    """The metadata say so, in the three keys that the format asks for."""
    return (
        "modelspec.sai_model_spec" in metadata
        and metadata.get("ot_branch") == "omi_format"
        and metadata.get("modelspec.architecture", "").endswith("/lora")
    )


def is_control(facts: LoraFacts) -> bool:
    """It widens the input of FLUX to take a control picture beside the latents."""
    inputs = [target for target in facts.targets if target.place.module in ("img_in", "x_embedder")]
    return "flux" in facts.bases and any(target.layer.measure[:2] == (3072, 128) for target in inputs)


def is_motion(facts: LoraFacts) -> bool:
    """It changes the motion modules of AnimateDiff."""
    return any("motion_modules" in target.stem for target in facts.targets)
