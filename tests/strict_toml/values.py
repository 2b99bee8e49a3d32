"""Tables that TOML and JSON can both say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | numbers | texts
bare_keys = st.text("abcdefgh_-123", min_size=1, max_size=8)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(bare_keys, inner, max_size=3)


values = st.recursive(scalars, _containers, max_leaves=8)
tables: st.SearchStrategy[dict[str, Any]] = st.dictionaries(bare_keys, values, max_size=5)
