"""Trees of prompts of every kind, and texts in which every mark of the syntaxes stands anywhere."""

from __future__ import annotations

from hypothesis import strategies as st

from invokeai_daemon.job.prompt.tree import Blend, Conjunction, Fragment, Prompt, Swap, Window, joined, prompt_of
from tests.strict_toml.values import texts

_words = st.text("ab1ä,.+-=()[]\"\\:<>'", min_size=1, max_size=6) | st.sampled_from(["cat", "a cat", "8k", "well-lit"])
_weights = st.sampled_from([1.0, 1.1, 0.9, 0.0, 1.3]) | st.floats(0, 1000)
_signed = st.sampled_from([1.0, 0.25, -0.5]) | st.floats(-1000, 1000)
_fragments = st.builds(Fragment, _words, _weights)
prompts = st.lists(_fragments, max_size=4).map(prompt_of)
_moments = st.sampled_from([0.0, 0.2, 1.0]) | st.floats(0, 1)
_sides = st.lists(_fragments, max_size=2).map(joined)
_swaps = st.builds(Swap, _sides, _sides, st.builds(Window, _moments, _moments, _moments, _moments))
swapped = st.lists(_fragments | _swaps, max_size=4).map(prompt_of)


@st.composite
def _blends(draw: st.DrawFn) -> Blend:
    parts = draw(st.lists(prompts, min_size=1, max_size=3))
    weights = draw(st.lists(_signed, min_size=len(parts), max_size=len(parts)))
    return Blend(tuple(parts), tuple(weights), sum(weights) != 0 and draw(st.booleans()))


@st.composite
def conjunctions(draw: st.DrawFn, several: bool = True) -> Conjunction:
    """Trees that InvokeAI's syntax can say."""
    if draw(st.booleans()):
        return Conjunction((draw(_blends()),))
    if draw(st.booleans()):
        return Conjunction((draw(swapped),))
    parts: list[Prompt] = draw(st.lists(prompts, min_size=1, max_size=3 if several else 1))
    weights = draw(st.lists(_signed, min_size=len(parts), max_size=len(parts))) if len(parts) > 1 else [1.0]
    return Conjunction(tuple(parts), tuple(weights))


#: Texts of marks, words and calls in any order.
marked = st.lists(
    st.sampled_from(["a", "cat", "8k", "1.3", "0.5", "AND", "BREAK", "<x>", "<lora:y:1>", "well-lit", '"a",'])
    | st.sampled_from(
        ["(", ")", "((", "))", "[", "]", '"', ",", ".", "+", "++", "-", "--", "=", "\\", "<", ">", "|", "{"]
    )
    | st.sampled_from([":", ":1.2", ":1.2)", ".blend(", ".and(", ".add(", ".swap(", ".attend(", "withLora("])
    | st.sampled_from(["no_normalize", "t_start=0.1"])
    | st.sampled_from([" ", "  ", "\n"]),
    max_size=14,
).map("".join)
anything = texts | marked
