"""Embeddings: the vectors of a textual inversion, from the file of whatever trainer.

Called by `prompts.py` when a text names one. Which words mean an embedding is decided at planning; this module only
reads the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from invokeai_daemon.engine.loading.weights import read_tensors, weight_file
from invokeai_daemon.errors import DaemonError, RenderError
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.trained_words import BY_ENCODER, BY_TOKEN, NAMELESS


def load_embedding(reference: ModelRef, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """For each text encoder, by the width of its tokens, the vectors [n, width] in float32; None where it has none.

    Raises RenderError when the file cannot be read or fits none of them.
    """
    try:
        header = read_header(weight_file(reference))
        names = list(_names(header))
        tensors = read_tensors(header, names)
    except DaemonError as error:
        raise RenderError(f'The embedding "{reference.name}" cannot be used: {error}') from error
    vectors = [_rows(tensors[name]) for name in names if tensors[name].numel()]
    if not vectors:
        raise RenderError(f'The embedding "{reference.name}" has no vectors. Take another version of it.')
    found = tuple(next((each for each in vectors if each.shape[-1] == width), None) for width in widths)
    if all(each is None for each in found):
        raise RenderError(
            f'The embedding "{reference.name}" has vectors of width {_listed(sorted({v.shape[-1] for v in vectors}))}, '
            f"and this model reads words of width {_listed(widths)}. It was trained for another kind of model: "
            "remove it from the prompt, or choose a model of that kind."
        )
    return found


def _names(header: Header) -> Iterator[str]:
    """The tensors that are vectors, those that count most first. Raises RenderError when there is none."""
    names = [name for name in header.tensors if header.tensors[name].shape]
    # Of several tokens, AUTOMATIC1111 takes the first, and diffusers' scripts append, so that the last is the trained.
    found = [name for name in names if name.startswith(BY_TOKEN)][:1]
    found = found or [name for name in names if name == NAMELESS]
    found = found or [name for name in BY_ENCODER if name in names]
    found = found or names[-1:]
    if not found:
        raise RenderError(f"{header.path} holds no vectors.")
    yield from found


def _rows(vectors: Tensor) -> Tensor:
    return vectors.float().reshape(-1, vectors.shape[-1])


def _listed(widths: Sequence[int]) -> str:
    return " and ".join(str(width) for width in widths)
