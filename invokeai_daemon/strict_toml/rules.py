"""Rules of values: what pydantic finds wrong, in sentences that say the value, the rule and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from invokeai_daemon.errors import Problem, ProblemsError
from invokeai_daemon.strict_toml.read import Document

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound="BaseModel")

#: More problems than this are counted, not listed.
MAX_PROBLEMS = 50
#: Longer values are cut in messages.
MAX_SHOWN = 60


class Mistake(ValueError):
    """A wrong value, found by a validator: a sentence that says what was seen, and what to do.

    `key` is the dotted key in the file, when it is not the one that the validator belongs to.
    """

    def __init__(self, message: str, hint: str = "", key: str = "") -> None:
        self.message = message
        self.hint = hint
        self.key = key
        super().__init__(message)


def validate(model: type[M], document: Document, error: type[ProblemsError]) -> M:
    """The document as a model. Raises `error` with all problems, in the order of their lines.

    Class variables of a model that help: `synonyms`, what people call its keys ({"sampler": "scheduler"}); `unlisted`,
    keys that are not suggested; `not_yet`, keys that are known but not served.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(document.data)
    except ValidationError as failure:
        details = failure.errors(include_url=False)
    problems = sorted((_problem(model, one, document) for one in details), key=lambda problem: problem.line or 0)
    raise error(document.where, _shortened(problems))


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that the writer probably meant; None when nothing is close."""
    names = {known.casefold(): known for known in valid}
    folded = name[:100].casefold()
    close = difflib.get_close_matches(folded, names, n=1, cutoff=0.6)
    return names[close[0]] if close else None


def show(value: Any) -> str:
    """A value for a message: as TOML writes it, on one line, cut when long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number with too many digits"
    if isinstance(value, str):
        return f'"{_cut(_printable(value))}"'
    if isinstance(value, Mapping):
        return "a table"
    return _cut(_printable(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _shortened(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], Problem(f"There are {len(problems) - MAX_PROBLEMS} more problems.")]


def _problem(model: type[BaseModel], detail: ErrorDetails, document: Document) -> Problem:
    mistake = detail.get("ctx", {}).get("error")
    key = _dotted(detail["loc"])
    if isinstance(mistake, Mistake):
        key = mistake.key or key
        return Problem(mistake.message, key, document.line(key), mistake.hint)
    message, hint = _sentence(model, detail)
    return Problem(message, key, document.line(key), hint)


def _dotted(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    """What is wrong, and what to do."""
    kind, value = detail["type"], detail["input"]
    owner, field = _place(model, detail["loc"])
    if kind == "extra_forbidden":
        return _unknown_key(model, owner, str(detail["loc"][-1]))
    if kind == "missing":
        return "is required.", f"Add it: {_example(str(detail['loc'][-1]), field)}"
    if kind == "literal_error" and field is not None:
        return _not_one_of(value, list(_choices(field.annotation)))
    if kind == "list_type" and isinstance(value, Mapping):
        return "a table is not a list.", f"Write [[{_dotted(detail['loc'])}]], in double brackets."
    if kind == "model_type":
        return _no_table(value, detail["loc"])
    if kind == "too_long":
        counts = detail["ctx"]
        return f"{counts['actual_length']} are too many.", f"Use at most {counts['max_length']}."
    if kind in _WRONG_TYPE:
        what, hint = _WRONG_TYPE[kind]
        return f"{show(value)} is not {what}.", hint
    if kind in _OUT_OF_RANGE and field is not None:
        bounds = " and ".join(_bounds(field.annotation, *field.metadata))
        return f"{show(value)} is out of range.", f"Use {bounds}."
    if kind in ("string_too_short", "too_short"):
        return f"{show(value)} is empty.", ""
    if kind == "string_pattern_mismatch" and field is not None and field.description:
        return f"{show(value)} is not valid.", f"Use {field.description}."
    return f"{show(value)}: {detail['msg']}.", ""


#: pydantic's error type -> what was expected, and what to do.
_WRONG_TYPE = {
    "int_type": ("a whole number", "Write it without quotes and without a point."),
    "int_from_float": ("a whole number", "Write it without a point."),
    "int_parsing_size": ("a whole number of sensible size", ""),
    "float_type": ("a number", "Write it without quotes, as in 7.5."),
    "finite_number": ("a finite number", ""),
    "string_type": ("text", "Put it in quotes."),
    "bool_type": ("true or false", "Write true or false, without quotes."),
    "dict_type": ("a table", ""),
    "list_type": ("a list", "Write it in brackets: [1, 2]."),
    "tuple_type": ("a list", "Write it in brackets: [1, 2]."),
}
_OUT_OF_RANGE = frozenset({"greater_than_equal", "greater_than", "less_than_equal", "less_than"})


def _no_table(value: Any, location: tuple[int | str, ...]) -> tuple[str, str]:
    """What stands where a table, or one of a list of them, should."""
    is_one_of_many = isinstance(location[-1], int)
    header = f"[[{_dotted(location[:-1])}]]" if is_one_of_many else f"[{_dotted(location)}]"
    if isinstance(value, list):
        return "a list is not a table.", f"Write {header}, and only once."
    return f"{show(value)} is not a table.", f"Write {header} with keys below it."


def _place(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model whose key a location ends at, and the field of that key."""
    owner, field = model, None
    for part in location:
        if field is not None and (inner := _model_in(field)) is not None:
            owner = inner
        if isinstance(part, str):
            field = _fields(owner).get(part)
    return owner, field


def _model_in(field: FieldInfo) -> type[BaseModel] | None:
    from pydantic import BaseModel

    queue = [field.annotation]
    while queue:
        annotation = queue.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        queue.extend(get_args(annotation))
    return None


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields under the names that a file uses."""
    return {str(field.validation_alias or name): field for name, field in model.model_fields.items()}


def _unknown_key(model: type[BaseModel], owner: type[BaseModel], key: str) -> tuple[str, str]:
    if key in getattr(owner, "not_yet", ()):
        return "is not supported yet.", "Remove it."
    keys = _listed(owner)
    meant = _synonym(owner, key)
    if meant is None and owner is not model and key in _listed(model):
        return "There is no such key here.", f"Write {key} above the first [header]: what follows one belongs to it."
    if meant is None and owner is model and (headers := _headers_of(model, key)):
        return "There is no such key here.", f"It belongs below {' or '.join(headers)}."
    meant = meant or nearest(key, keys)
    hint = f'Did you mean "{meant}"?' if meant else f"The keys are {', '.join(keys)}."
    return "There is no such key.", hint


def _listed(model: type[BaseModel]) -> list[str]:
    return [name for name in _fields(model) if name not in getattr(model, "unlisted", ())]


def _synonym(model: type[BaseModel], key: str) -> str | None:
    return getattr(model, "synonyms", {}).get(key.casefold())


def _headers_of(model: type[BaseModel], key: str) -> list[str]:
    """The headers of the tables that have a key; if there are none, those where it is another word for one."""
    tables = {name: table for name in _listed(model) if (table := _model_in(_fields(model)[name])) is not None}
    own = [_header(model, name) for name, table in tables.items() if key in _fields(table)]
    meant = {name: synonym for name, table in tables.items() if (synonym := _synonym(table, key))}
    return own or [f'{_header(model, name)} as "{synonym}"' for name, synonym in meant.items()]


def _header(model: type[BaseModel], name: str) -> str:
    return f"[[{name}]]" if get_origin(_fields(model)[name].annotation) is list else f"[{name}]"


def _not_one_of(value: Any, choices: list[str]) -> tuple[str, str]:
    meant = nearest(value, choices) if isinstance(value, str) else None
    listed = ", ".join(f'"{choice}"' for choice in choices)
    guess = f'Did you mean "{meant}"? ' if meant else ""
    return f"{show(value)} is not known.", f"{guess}Use {listed}."


def _bounds(annotation: Any, *rules: Any) -> Iterator[str]:
    """The bounds of a number, also where they belong to an element of a list: "at least 1", "at most 1000"."""
    for name, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        for rule in rules:
            for one in getattr(rule, "metadata", None) or [rule]:
                if getattr(one, name, None) is not None:
                    yield f"{word} {getattr(one, name)}"
    for inner in get_args(annotation):
        yield from _bounds(inner, *getattr(inner, "__metadata__", ()))


def _choices(annotation: Any) -> Iterator[str]:
    """The values of a Literal, also inside of an optional one."""
    for inner in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(inner)
        else:
            yield from _choices(inner)


def _example(key: str, field: FieldInfo | None) -> str:
    examples = field.examples if field is not None else None
    return f'{key} = "{examples[0]}"' if examples else f"{key} = …"
