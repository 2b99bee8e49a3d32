"""Embedding: the vectors of a textual inversion, in the layouts of its trainers.

The base follows from the width of the vectors. A file with few tensors is no embedding for that: its names must be
tokens, its tensors rows of vectors of one width that a text encoder has.
"""

from __future__ import annotations

from invokeai_daemon.models.identify.rules import tells
from invokeai_daemon.models.identify.table import Answer, Choice, Family, Rule, axis, both, has, lacks
from invokeai_daemon.models.identify.weights import Weights, shorten

#: width of a text encoder -> what has it
_WIDTHS = {768: "sd-1", 1024: "sd-2", 1280: "sdxl", 4096: "flux"}
#: Names of the text encoders in files for several of them.
_CLIP_L = ("clip_l", "text_encoders_0")
_CLIP_G = ("clip_g", "text_encoders_1")
_T5 = ("t5", "t5xxl", "t5_xxl")
#: At most so many tokens, and so many vectors of one token.
MOST_TOKENS, MOST_VECTORS = 9, 250
#: How the tensors of networks end; tokens are not written so.
_OF_NETWORKS = ("weight", "bias", ".alpha", ".gamma", ".beta", ".running_mean", ".running_var")


def _trigger(weights: Weights) -> str:
    stem = weights.header.path.stem
    inner = weights.scalars.get("name") or weights.metadata.get("name") or weights.metadata.get("trigger_word")
    tokens = [name for name in weights.names if name.startswith("<") or _is_plain(weights)]
    known = inner if isinstance(inner, str) else ", ".join(tokens[:MOST_TOKENS])
    inside = f', and by the name inside it, "{shorten(known)}"' if known and known != stem else ""
    return f'it is called in prompts by its file name, "{shorten(stem)}"{inside}'


def _is_plain(weights: Weights) -> bool:
    named = {"emb_params", *_CLIP_L, *_CLIP_G, *_T5}
    return not named & set(weights.names) and not weights.begins("string_to_param.")


def _widths(*patterns: str) -> tuple[tuple[str, Rule], ...]:
    return tuple((base, axis(patterns, -1, width, called="vectors of width")) for width, base in _WIDTHS.items())


def _vectors(*patterns: str) -> Rule:
    """These tensors are vectors, or rows of some."""

    def rule(weights: Weights) -> Answer:
        found = weights.find(*patterns)
        holds = found is not None and _is_rows(found.shape)
        return Answer(holds, "" if holds or found is None else f"{shorten(found.name)} has shape {found.shape}")

    return rule


def _is_rows(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and 1 <= shape[0] <= MOST_VECTORS)


def _tokens(weights: Weights) -> Answer:
    """A plain dictionary of tokens. (A rule.)"""
    if not 0 < len(weights) <= MOST_TOKENS:
        return Answer(False, f"it has {len(weights):,} tensors, and an embedding at most {MOST_TOKENS}")
    of_network = next((name for name in weights.names if name.endswith(_OF_NETWORKS)), None)
    if of_network or not _is_plain(weights):
        return Answer(False, f"{shorten(of_network or weights.names[0])} is no token")
    shapes = [weights.tensor(name).shape for name in weights.names]
    odd = next((shape for shape in shapes if not _is_rows(shape) or shape[-1] not in _WIDTHS), None)
    if odd is not None:
        return Answer(False, f"a tensor of shape {odd} is no vector of a text encoder")
    if len({shape[-1] for shape in shapes}) > 1:
        return Answer(False, "its vectors have different widths")
    return Answer(True, f"it has vectors of width {shapes[0][-1]} by the token {shorten(weights.names[0])}")


def _only_encoders(weights: Weights) -> Answer:
    """Nothing but vectors of text encoders is in the file. (A rule.)"""
    known = {*_CLIP_L, *_CLIP_G, *_T5}
    other = next((name for name in weights.names if name not in known), None)
    wrong = next((name for name in weights.names if not _is_rows(weights.tensor(name).shape)), None)
    return Answer(not other and not wrong, f"it has {shorten(other or wrong or '')}" if other or wrong else "")


def _also(weights: Weights) -> str:
    width = next((weights.tensor(name).shape[-1] for name in weights.names if weights.tensor(name).shape), 0)
    if width == 768:
        return "vectors of width 768 alone are for SD-1; the first encoder of SDXL, SD-3 and FLUX has the same width"
    if width == 1280:
        return "vectors of width 1280 alone are for the second encoder of SDXL; SD-3 has the same one"
    return ""


_G, _L = has(*_CLIP_G, called="vectors for CLIP-G"), has(*_CLIP_L, called="vectors for CLIP-L")
_NO_G = lacks(*_CLIP_G, called="vectors for CLIP-G")
_NO_T5 = lacks(*_T5, called="vectors for T5")

FAMILIES: tuple[Family, ...] = (
    Family(
        "embedding",
        Choice(_widths("string_to_param.*")),
        "an embedding by AUTOMATIC1111's trainer",
        marks=(has("string_to_param.*", called="the vectors of an embedding"),),
        rules=(_vectors("string_to_param.*"), tells(_also), tells(_trigger)),
        format="embedding_file",
    ),
    Family(
        "embedding",
        Choice(_widths("emb_params")),
        "an embedding",
        marks=(has("emb_params", called="the vectors of an embedding"),),
        rules=(_vectors("emb_params"), tells(_also), tells(_trigger)),
        format="embedding_file",
    ),
    Family(
        "embedding",
        Choice(
            (
                ("sd-3", both(_G, has(*_T5, called="vectors for T5"))),
                ("sdxl", both(_G, _NO_T5)),
                ("flux", both(has(*_T5, called="vectors for T5"), _NO_G)),
            ),
            default="flux",
        ),
        "an embedding for several text encoders",
        marks=(has(*_CLIP_G, *_CLIP_L, *_T5, called="vectors for a named text encoder"), _only_encoders),
        rules=(tells(_trigger),),
        format="embedding_file",
    ),
    Family(
        "embedding",
        Choice(_widths("*")),
        "an embedding by its token",
        marks=(_tokens,),
        rules=(tells(_also), tells(_trigger)),
        format="embedding_file",
    ),
)
