"""Prompt commands of 2.3 as job keys: one line, or a file of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.commands import pictures
from invokeai_daemon.job.commands.switches import ANY_VALUE, BY_NAME, NOUNS, WHOLE, Switch
from invokeai_daemon.job.parse import job_of
from invokeai_daemon.job.prompt.legacy import blend_of, split_negative, weighted_parts
from invokeai_daemon.job.prompt.printing import invokeai_text
from invokeai_daemon.job.prompt.tree import Remarks
from invokeai_daemon.strict_toml import Document, dump_toml, nearest, show

_SWITCHES_START = re.compile(r"\s(--?[a-zA-Z].*)", re.DOTALL)
_QUOTED_PROMPT = re.compile(r'"((?:[^"\\]|\\.)*+)"(?:\s+([-#].*)|\s*)$', re.DOTALL)
_MODEL_TRAILER = re.compile(r"(?:^|\s)#\s*model_id=(.+?)\s*$")
_DREAM = re.compile(r"!dream\s+")


def parse_command(line: str) -> tuple[dict[str, Any], list[Problem]]:
    """The job keys that a prompt command sets, and what is wrong with it. Values are not judged here, only read."""
    line = _DREAM.sub("", line.strip(), count=1)
    if line.startswith("!"):
        return {}, [Problem(f"{show(line)} is not a prompt.", hint="Put a prompt that starts with ! in quotes.")]
    prompt, switches, model = parts(line)
    try:
        words = shlex.split(switches, comments=True)
    except ValueError:
        return {}, [Problem("A quote of the switches does not end.", hint="Close it, or put the prompt in quotes.")]
    reading = _Reading({} if prompt is None else {"prompt": prompt}, [])
    reading.read(words)
    _name_axes(reading.job)
    if model:
        reading.job["model"] = model
    if "negative_prompt" not in reading.job and "prompt" in reading.job:
        reading.job["prompt"], negative = split_negative(reading.job["prompt"])
        if negative is not None:
            reading.job["negative_prompt"] = negative
    _skip_normalize(reading.job)
    reading.problems.extend(pictures.place(reading.job))
    return reading.job, reading.problems


def _skip_normalize(job: dict[str, Any]) -> None:
    """2.3's `-x`: the weights behind colons blend as they are."""
    if job.pop("skip_normalize", False) and (parts := weighted_parts(job.get("prompt", ""))):
        job["prompt"] = invokeai_text(blend_of(parts, Remarks(), is_normalized=False))


def _name_axes(job: dict[str, Any]) -> None:
    """2.3's `--seamless` as a job's keys. As there, `--seamless_axes` says nothing without it."""
    letters = job.pop("seamless_axes", "xy")
    if job.pop("seamless", False):
        job.update({f"seamless_{axis}": axis in letters for axis in "xy"})


def jobs_of_text(raw: bytes, where: str) -> list[bytes]:
    """A job file for each prompt command of a text. Raises JobError with the problems of all lines.

    As in 2.3, a sampler and a `!switch` stay for the lines that follow, and a line `q` ends the text.
    """
    jobs: list[bytes] = []
    problems: list[Problem] = []
    sticky: dict[str, Any] = {}
    for number, line in _commands(_decoded(raw, where)):
        if line.startswith("!switch "):
            sticky["model"] = line.removeprefix("!switch ").strip()
            continue
        job, found = parse_command(line)
        if "scheduler" in job:
            sticky["scheduler"] = job["scheduler"]
        job = {**sticky, **job, "prompt_syntax": "invokeai"}
        found = found or [*_job_problems(job, where, number)]
        problems.extend(replace(problem, line=number) for problem in found)
        if not found:
            jobs.append(dump_toml(job).encode())
    if not jobs and not problems:
        problems.append(Problem("There is no prompt in this file.", hint="Write one prompt on each line."))
    if problems:
        raise JobError(where, problems)
    return jobs


def join_subprompts(parts: Iterable[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The prompt of a 2.x record, which lists weighted parts, and its negative prompt; several parts are a blend."""
    listed = [(*split_negative(str(part["prompt"])), float(part["weight"])) for part in parts]
    negatives = [negative for _, negative, _ in listed if negative is not None]
    negative = " ".join(negatives) if negatives else None
    if len(listed) == 1:
        return listed[0][0], negative
    return invokeai_text(blend_of([(text, weight) for text, _, weight in listed], Remarks())), negative


def parts(line: str) -> tuple[str | None, str, str | None]:
    """The prompt, the switches and the model of a line; no prompt when the line starts with a switch."""
    if quoted := _QUOTED_PROMPT.match(line):
        switches, model = _without_trailer(quoted[2] or "")
        return re.sub(r'\\(["\\])', r"\1", quoted[1]), switches, model
    line, model = _without_trailer(line)
    if line.startswith("-"):
        return None, line, model
    if found := _SWITCHES_START.search(line):
        return line[: found.start()].strip(), found[1], model
    return line, "", model


def _without_trailer(line: str) -> tuple[str, str | None]:
    found = _MODEL_TRAILER.search(line)
    return (line[: found.start()], found[1]) if found else (line, None)


class _Reading:
    """The switches of one line, word by word."""

    def __init__(self, job: dict[str, Any], problems: list[Problem]) -> None:
        self.job = job
        self.problems = problems

    def read(self, words: list[str]) -> None:
        rest = iter(_Words(words))
        for word in rest:
            self._switch(word, rest)

    def _switch(self, word: str, rest: _Words) -> None:
        switch, attached = _find(word)
        if switch is None:
            self._unknown(word, rest)
            return
        values = [] if switch.kind is None else [attached] if attached is not None else rest.values(switch)
        if switch.kind is not None and not values:
            self.problems.append(Problem("needs a value.", word))
        elif switch.key is None:
            self._refuse(switch, word, values)
        elif switch.kind is None:
            self._put(switch.key, True)
        else:
            self._take(switch.key, switch.kind, word, values)

    def _take(self, key: str, kind: Callable[[Any], Any], word: str, values: list[str]) -> None:
        try:
            read = kind(values if kind in WHOLE else values[0])
        except ValueError:
            self.problems.append(Problem(f"{show(' '.join(values))} is not {NOUNS[kind]}.", word))
            return
        if key == "seed" and read < 0:
            message = f"{read} means the seed of an earlier picture, which a job does not know."
            self.problems.append(Problem(message, word, hint="Write the seed itself."))
            return
        # 2.3 rounds sizes down as well (to multiples of 64, which its own sizes are).
        self._put(key, read - read % 8 if key in ("width", "height") else read)

    def _put(self, key: str, value: Any) -> None:
        table, _, name = key.rpartition(".")
        place = self.job.setdefault(table, {}) if table else self.job
        place[name] = {**place.get(name, {}), **value} if isinstance(value, dict) else value

    def _refuse(self, switch: Switch, word: str, values: list[str]) -> None:
        if switch.what and not (values and values[0] in switch.off):
            message = f"asks for {switch.what}: not supported yet."
            self.problems.append(Problem(message, word, hint="Remove the switch."))

    def _unknown(self, word: str, rest: _Words) -> None:
        if not word.startswith("-"):
            self.problems.append(Problem(f"{show(word)} belongs to no switch.", hint="Prompts come first."))
            return
        rest.values(ANY_VALUE)
        meant = nearest(word.partition("=")[0], BY_NAME)
        self.problems.append(Problem("There is no such switch.", word, hint=f"Did you mean {meant}?" if meant else ""))


class _Words:
    """Words that can be looked at before they are taken."""

    def __init__(self, words: list[str]) -> None:
        self._words = words[::-1]

    def __iter__(self) -> _Words:
        return self

    def __next__(self) -> str:
        if not self._words:
            raise StopIteration
        return self._words.pop()

    def values(self, switch: Switch) -> list[str]:
        """The values that follow a switch: one at least if there is one, more while they are no switches."""
        taken: list[str] = []
        while self._words and len(taken) < switch.values and not _is_switch(self._words[-1]):
            taken.append(self._words.pop())
        return taken


def _find(word: str) -> tuple[Switch | None, str | None]:
    """The switch that a word names and the value that the word carries: `-s`, `-s20`, `--steps=20`."""
    if word in BY_NAME:
        return BY_NAME[word], None
    name, equals, value = word.partition("=")
    if word.startswith("--"):
        return (BY_NAME.get(name), value) if equals else (None, None)
    switch = BY_NAME.get(word[:2])
    return (switch, word[2:]) if switch is not None and switch.kind is not None else (None, None)


def _is_switch(word: str) -> bool:
    return re.match(r"--?[a-zA-Z]", word) is not None


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """The lines that ask for something, with their numbers."""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped == "q":
            return
        if stripped and not stripped.startswith(("#", "//")):
            yield number, stripped


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8").replace("\r\n", "\n").replace("\r", " ")
    except UnicodeDecodeError as failure:
        line = raw.count(b"\n", 0, failure.start) + 1
        raise JobError(where, [Problem("The text is not UTF-8.", line=line, hint="Save it as UTF-8.")]) from None


def _job_problems(job: dict[str, Any], where: str, line: int) -> tuple[Problem, ...]:
    try:
        job_of(Document(where, job, dict.fromkeys(job, line)))
    except JobError as error:
        return error.problems
    return ()
