"""Trained words: what an embedding was called while it was trained, as its file says. Called by the importer.

Prompts can name an embedding so, besides by its own name. Reads nothing but a header.
"""

from __future__ import annotations

from collections.abc import Iterator

from invokeai_daemon.models.formats.base import Header

#: The vectors of AUTOMATIC1111's trainer, by token.
BY_TOKEN = "string_to_param."
#: What kohya's scripts call the vectors.
NAMELESS = "emb_params"
#: What a file for several text encoders calls the vectors of each.
BY_ENCODER = ("clip_l", "text_encoders_0", "clip_g", "text_encoders_1", "t5", "t5xxl", "t5_xxl")
#: Texts of a file that say it.
_SAID = ("name", "trigger_word")
#: No longer word is one; a shorter one would be found in prompts that do not mean it.
_SHORTEST, _LONGEST = 3, 100


def trained_words(header: Header) -> tuple[str, ...]:
    """The words, the surest first, each once; not the `*` that trainers write when they were told none."""
    words = (word.strip() for word in _words(header))
    return tuple(dict.fromkeys(word for word in words if _SHORTEST <= len(word) <= _LONGEST))


def _words(header: Header) -> Iterator[str]:
    for said in (header.scalars, header.metadata):
        yield from (word for key in _SAID if isinstance(word := said.get(key), str))
    names = list(header.tensors)
    tokens = [name.removeprefix(BY_TOKEN) for name in names if name.startswith(BY_TOKEN)]
    yield from tokens or (name for name in names if "." not in name and name not in (NAMELESS, *BY_ENCODER))
