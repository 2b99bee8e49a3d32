"""Rules: every kind of wrong value gets a sentence with the value and what to write instead."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from invokeai_daemon.errors import SettingsError
from invokeai_daemon.strict_toml import Mistake, nearest, read_toml, show, validate


def _even(value: int) -> int:
    if value % 2:
        raise Mistake(f"{value} is odd.", f"Use {value + 1}.")
    return value


class Lora(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    synonyms: ClassVar[dict[str, str]] = {"power": "weight"}
    name: str
    weight: float = Field(1.0, gt=0, le=2)


class Sample(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    synonyms: ClassVar[dict[str, str]] = {"cfg": "guidance"}
    unlisted: ClassVar[frozenset[str]] = frozenset({"hidden", "mode"})
    not_yet: ClassVar[frozenset[str]] = frozenset({"mask"})

    kind: Literal["render", "merge"] = "render"
    steps: int | None = Field(None, ge=1, le=10)
    guidance: float = 1.0
    even: Annotated[int, AfterValidator(_even)] = 0
    on: bool = True
    words: list[Annotated[int, Field(ge=0)]] = []
    loras: list[Lora] = Field([], max_length=3)
    one: Lora | None = None
    from_: str = Field("x", alias="from", pattern="^x", description="a word that starts with x")
    hidden: str = ""
    mode: Literal["fast", "slow"] | None = None


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        validate(Sample, read_toml(text.encode(), "f.toml", SettingsError), SettingsError)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 0", "line 1: steps: 0 is out of range. Use at least 1 and at most 10."),
        ("steps = true", "line 1: steps: true is not a whole number. Write it without quotes and without a point."),
        ("steps = 2.5", "line 1: steps: 2.5 is not a whole number. Write it without quotes and without a point."),
        ('guidance = "7"', 'line 1: guidance: "7" is not a number. Write it without quotes, as in 7.5.'),
        ("guidance = true", "line 1: guidance: true is not a number. Write it without quotes, as in 7.5."),
        ("on = 1", "line 1: on: 1 is not true or false. Write true or false, without quotes."),
        ("even = 3", "line 1: even: 3 is odd. Use 4."),
        ("from = 3", "line 1: from: 3 is not text. Put it in quotes."),
        ('from = "ax"', 'line 1: from: "ax" is not valid. Use a word that starts with x.'),
        ('kind = "rendr"', 'line 1: kind: "rendr" is not known. Did you mean "render"? Use "render", "merge".'),
        ('mode = "fats"', 'line 1: mode: "fats" is not known. Did you mean "fast"? Use "fast", "slow".'),
        ("words = 3", "line 1: words: 3 is not a list. Write it in brackets: [1, 2]."),
        ("words = [1,\n -2]", "line 2: words[1]: -2 is out of range. Use at least 0."),
        ("loras = [3]", "line 1: loras[0]: 3 is not a table. Write [[loras]] with keys below it."),
        ('[loras]\nname = "a"', "line 1: loras: a table is not a list. Write [[loras]], in double brackets."),
        ("[[loras]]\nname = 'a'\n" * 4, "line 1: loras: 4 are too many. Use at most 3."),
        ("one = 3", "line 1: one: 3 is not a table. Write [one] with keys below it."),
        ('[[one]]\nname = "a"', "line 1: one: a list is not a table. Write [one], and only once."),
        ("[[loras]]\nweight = 3", "line 2: loras[0].weight: 3 is out of range. Use more than 0 and at most 2."),
        ("[[loras]]\nweight = 1", "line 1: loras[0].name: is required. Add it: name = …"),
        ('[[loras]]\nname = "a"\nwieght = 1', 'line 3: loras[0].wieght: There is no such key. Did you mean "weight"?'),
        (
            "[one]\nname = 'a'\nsteps = 3",
            "line 3: one.steps: There is no such key here. "
            "Write steps above the first [header]: what follows one belongs to it.",
        ),
        ("weight = 1", "line 1: weight: There is no such key here. It belongs below [[loras]] or [one]."),
        (
            "power = 1",
            'line 1: power: There is no such key here. It belongs below [[loras]] as "weight" or [one] as "weight".',
        ),
        ("cfg = 1", 'line 1: cfg: There is no such key. Did you mean "guidance"?'),
        ("mask = 1", "line 1: mask: is not supported yet. Remove it."),
        (
            "zzz = 1",
            "line 1: zzz: There is no such key. The keys are kind, steps, guidance, even, on, words, loras, one, from.",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_what_to_write(text: str, message: str) -> None:
    assert message in problems(text)


def test_all_problems_come_at_once_in_the_order_of_their_lines() -> None:
    told = problems('stepz = 3\nguidance = "a"\n\non = 3\n[[loras]]\nweight = 9')
    assert [problem.split(":")[0] for problem in told] == ["line 1", "line 2", "line 4", "line 5", "line 6"]


def test_a_thousand_problems_are_counted_not_listed() -> None:
    told = problems("\n".join(f"wrong{n} = 1" for n in range(1_000)))
    assert len(told) == 51
    assert told[-1] == "There are 950 more problems."


def test_nearest_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("Schedular", ["scheduler", "steps"]) == "scheduler"
    assert nearest("banana", ["scheduler", "steps"]) is None
    assert nearest("x" * 100_000, ["scheduler"]) is None


def test_values_are_shown_on_one_short_line() -> None:
    assert show("a\nb\x1b[31m") == '"a\\nb\\x1b[31m"'
    assert len(show("x" * 1_000)) <= 62
    assert show(10**5_000) == "a number with too many digits"
    assert show({"a": 1}) == "a table"
    assert show(True) == "true"
