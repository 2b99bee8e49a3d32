"""Parts: the models in the folders of a pipeline or an adapter, read without a network. Called where they are loaded.

A part is whole in memory, or streamed: then its layers stay on the disk until their own forward.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invokeai_daemon.engine.faults import shortage_behind
from invokeai_daemon.engine.loading.streaming import Stored, stream, without_weights
from invokeai_daemon.errors import ModelError, ModelMissing
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.header import read_header


@contextmanager
def being_read(what: str, model: ModelRef) -> Iterator[None]:
    """What goes wrong inside becomes one sentence about a model; `what` is what people call it: VAE.

    Raises ModelMissing, ModelError, and as they are an accelerator's errors and that memory ran out.
    """
    path = Path(model.path)
    if not path.exists():
        raise ModelMissing(f'{what} "{model.name}": {path} is not there any more. Import it again.')
    try:
        yield
    except torch.AcceleratorError:
        raise
    # Broken folders and files surface as almost any error of the loading libraries.
    except Exception as error:
        if (shortage := shortage_behind(error)) is not None:
            raise shortage from None
        why = str(error).strip().partition("\n")[0].removesuffix(".") or type(error).__name__
        raise ModelError(
            f'{what} "{model.name}" could not be loaded from {path}: {why}. '
            "Import it again, or remove it from configs/models.yaml."
        ) from error


def read_part(
    kind: Any, folder: Path, dtype: torch.dtype, is_streamed: bool = False, spare: Collection[str] = ()
) -> Any:
    """A model of a class of diffusers or transformers, ready but for its device: `bring` follows.

    Raises ModelError when the files lack weights of it that are not to `spare`, and what the loading libraries raise.
    """
    files = weight_files(folder)
    if is_streamed:
        part = without_weights(kind, folder, dtype)
        part.stored = Stored(files, dtype)
    else:
        variant = "fp16" if _are_half(files) else None
        # diffusers has the older word for it.
        words: dict[str, Any] = {"torch_dtype" if hasattr(kind, "load_config") else "dtype": dtype}
        words |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        part, seen = kind.from_pretrained(folder, variant=variant, **words)
        if missing := sorted({*seen["missing_keys"]} - {*spare}):
            # They would be whatever the memory held, or drawn at random.
            raise ModelError(f"{folder.name}/ lacks {len(missing)} of its weights, for instance {missing[0]}")
    return part.requires_grad_(False).eval()


def bring(part: nn.Module, device: torch.device) -> None:
    """Let a part compute on a device. Its layers must not change their classes any more."""
    stored = getattr(part, "stored", None)
    if stored is None:
        part.to(device)
    else:
        stream(part, stored, device)


def weight_files(folder: Path) -> list[Path]:
    """The files that the weights of a part are read from: the exact ones, else those of `variant="fp16"`."""
    files = list(folder.glob("*.safetensors"))
    return [path for path in files if ".fp16." not in path.name] or files


def _are_half(files: Sequence[Path]) -> bool:
    return any(".fp16." in path.name for path in files)


def count_parameters(folder: Path) -> int:
    """How many numbers the weights of a part are, from the headers of its files."""
    return sum(info.count for path in weight_files(folder) for info in read_header(path).tensors.values())


def bytes_of(part: nn.Module) -> int:
    """Bytes that a part takes in memory: none for layers that stay on the disk."""
    tensors = (*part.parameters(), *part.buffers())
    return sum(tensor.nbytes for tensor in tensors if tensor.device.type != "meta")


def json_of(path: Path) -> dict[str, Any]:
    """A config of a part."""
    words: dict[str, Any] = json.loads(path.read_bytes())
    return words
