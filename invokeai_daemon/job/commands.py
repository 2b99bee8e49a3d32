"""InvokeAI 2.3 prompt commands: `waterfall and rainbow -W640 -H480 -S42` as job keys, and job keys as a command.

Called for `*.txt` drops, for `Dream` records, and by `metadata --command`. Switches that are not served are problems.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from invokeai_daemon.errors import JobError, Problem
from invokeai_daemon.job.parse import job_of
from invokeai_daemon.job.plan import USUAL
from invokeai_daemon.job.prompt.legacy import blend_of, split_negative, weighted_parts
from invokeai_daemon.job.prompt.printing import invokeai_text
from invokeai_daemon.job.prompt.tree import Remarks
from invokeai_daemon.job.prompt.understand import as_invokeai
from invokeai_daemon.job.schedulers import SAMPLERS_23
from invokeai_daemon.strict_toml import Document, dump_toml, nearest, show


def pairs(text: str) -> list[list[int | float]]:
    """`seed:weight,seed:weight` as a job lists them. Raises ValueError."""
    return [[int(seed), float(weight)] for seed, _, weight in (pair.partition(":") for pair in text.split(","))]


def axes(text: str) -> str:
    """`x`, `y` or both, with or without a comma. Raises ValueError."""
    letters = text.replace(",", "").casefold()
    if not letters or set(letters) - {"x", "y"}:
        raise ValueError(text)
    return letters


@dataclass(frozen=True)
class Switch:
    """One switch of the command line of 2.3."""

    names: tuple[str, ...]
    #: The key of a job that it sets, dotted within a table; None when a job has no such thing.
    key: str | None = None
    #: What its value is; None for a switch without one.
    kind: Callable[[str], Any] | None = None
    #: For a switch without a key: a noun for the message; empty when it does not change the picture.
    what: str = ""
    #: For a switch without a key: values that ask for nothing.
    off: tuple[str, ...] = ()
    #: The most values that may follow.
    values: int = 1


SWITCHES = (
    Switch(("--prompt",), "prompt", str),
    Switch(("--negative_prompt",), "negative_prompt", str),
    Switch(("-s", "--steps"), "steps", int),
    Switch(("-S", "--seed"), "seed", int),
    Switch(("-n", "--iterations"), "iterations", int),
    Switch(("-W", "--width"), "width", int),
    Switch(("-H", "--height"), "height", int),
    Switch(("-C", "--cfg_scale"), "cfg_scale", float),
    Switch(("-A", "-m", "--sampler"), "scheduler", str),
    Switch(("--threshold",), "threshold", float),
    Switch(("--perlin",), "perlin", float),
    Switch(("--h_symmetry_time_pct",), "h_symmetry_time_pct", float),
    Switch(("--v_symmetry_time_pct",), "v_symmetry_time_pct", float),
    Switch(("-v", "--variation_amount"), "variation.amount", float),
    Switch(("-V", "--with_variations"), "variation.with", pairs),
    Switch(("--variation_seed",), "variation.seed", int),
    Switch(("--seamless",), "seamless"),
    Switch(("--seamless_axes",), "seamless_axes", axes),
    Switch(("--save_intermediates",), "save_intermediates", int),
    Switch(("--cfg_rescale_multiplier",), "cfg_rescale_multiplier", float),
    Switch(("--clip_skip",), "clip_skip", int),
    Switch(("--denoising_start",), "denoising_start", float),
    Switch(("--denoising_end",), "denoising_end", float),
    Switch(("-t", "--log_tokenization"), "log_tokenization"),
    Switch(("-x", "--skip_normalize"), "skip_normalize"),
    # These do not change the picture.
    Switch(("-i", "--individual")),
    Switch(("--no-grid",)),
    Switch(("--use_mps_noise",)),
    Switch(("--karras_max",), kind=int),
    Switch(("-z", "--png_compression"), kind=int),
    # These would.
    Switch(("--fnformat",), kind=str, what="file names of one line"),
    Switch(("-o", "--outdir"), kind=str, what="other folders than outputs/"),
    Switch(("-g", "--grid"), what="grids"),
    Switch(("--hires_fix",), what="the high resolution fix"),
    Switch(("-I", "--init_img"), kind=str, what="init images"),
    Switch(("-tm", "--text_mask"), kind=str, what="masks", values=2),
    Switch(("--init_color",), kind=str, what="colour matching"),
    Switch(("-T", "-F", "-fit", "--fit"), what="init images"),
    Switch(("-f", "--strength"), kind=float, what="init images"),
    Switch(("-M", "--init_mask"), kind=str, what="masks"),
    Switch(("--invert_mask",), what="masks"),
    Switch(("-r", "--inpaint_replace"), kind=float, what="inpainting", off=("0", "0.0")),
    Switch(("-c", "--outcrop"), kind=str, what="outcropping", values=8),
    Switch(("--force_outpaint",), what="outpainting"),
    Switch(("--seam_size",), kind=int, what="inpainting"),
    Switch(("--seam_blur",), kind=int, what="inpainting"),
    Switch(("--seam_strength",), kind=float, what="inpainting"),
    Switch(("--seam_steps",), kind=int, what="inpainting"),
    Switch(("--tile_size",), kind=int, what="inpainting"),
    Switch(("--new_prompt",), kind=str, what="postprocessing"),
    Switch(("-ft", "--facetool"), kind=str, off=("gfpgan", "codeformer"), what="face restoration"),
    Switch(("-G", "--facetool_strength", "--gfpgan_strength"), kind=float, what="face restoration", off=("0", "0.0")),
    Switch(("-cf", "--codeformer_fidelity"), kind=float, what="face restoration"),
    Switch(("-U", "--upscale"), kind=float, what="upscaling", values=2),
    Switch(("-save_orig", "--save_original"), what="postprocessing"),
    Switch(("--embiggen",), kind=float, what="embiggening", values=3),
    Switch(("--embiggen_tiles",), kind=int, what="embiggening", values=1000),
    Switch(("--embiggen_strength",), kind=float, what="embiggening"),
    Switch(("-D", "--out_direction"), kind=str, what="outpainting", values=2),
)
#: What may follow a switch that is not known, and is passed over with it.
_ANY_VALUE = Switch((), values=1)
#: What a value was expected to be.
_NOUNS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    pairs: "a list like 42:0.3,43:0.1",
    axes: "x, y or x,y",
}
_BY_NAME = {name: switch for switch in SWITCHES for name in switch.names}

_SWITCHES_START = re.compile(r"\s(--?[a-zA-Z].*)", re.DOTALL)
_QUOTED_PROMPT = re.compile(r'"((?:[^"\\]|\\.)*+)"(?:\s+([-#].*)|\s*)$', re.DOTALL)
_MODEL_TRAILER = re.compile(r"(?:^|\s)#\s*model_id=(.+?)\s*$")
_DREAM = re.compile(r"!dream\s+")


def parse_command(line: str) -> tuple[dict[str, Any], list[Problem]]:
    """The job keys that a prompt command sets, and what is wrong with it. Values are not judged here, only read."""
    line = _DREAM.sub("", line.strip(), count=1)
    if line.startswith("!"):
        return {}, [Problem(f"{show(line)} is not a prompt.", hint="Put a prompt that starts with ! in quotes.")]
    prompt, switches, model = _parts(line)
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
    return reading.job, reading.problems


def to_command(job: Mapping[str, Any]) -> str:
    """Job keys as a prompt command that `parse_command` reads back; a line break in a prompt becomes a space."""
    if job.get("scheduler") is not None:
        job = {**job, "scheduler": SAMPLERS_23.get(job["scheduler"], job["scheduler"])}
    positive, negative = (_one_line(text) for text in _prompts(job))
    written = f"{positive} [{negative}]" if negative else positive
    extra = ""
    if split_negative(written) != (positive, negative or None):
        written, extra = positive, f" --negative_prompt={shlex.quote(negative)}"
    if _parts(written) != (written, "", None) or written != written.strip() or _is_special(written):
        written = '"' + written.replace("\\", "\\\\").replace('"', '\\"') + '"'
    switches = "".join(
        f" {flag} {_word(job[key])}" for flag, key in _WRITTEN if job.get(key) not in (None, USUAL.get(key))
    )
    switches += " -t" if job.get("log_tokenization") else ""
    switches += _seamless_switches(job) + _variation_switches(job.get("variation") or {})
    trailer = f" # model_id={job['model']}" if job.get("model") else ""
    return f"{written}{switches}{extra}{trailer}"


_WRITTEN = (
    ("-s", "steps"),
    ("-S", "seed"),
    ("-W", "width"),
    ("-H", "height"),
    ("-C", "cfg_scale"),
    ("-A", "scheduler"),
    ("-n", "iterations"),
    *(
        (f"--{key}", key)
        for key in (
            "perlin",
            "threshold",
            "h_symmetry_time_pct",
            "v_symmetry_time_pct",
            "save_intermediates",
            "cfg_rescale_multiplier",
            "clip_skip",
            "denoising_start",
            "denoising_end",
        )
    ),
)


def _prompts(job: Mapping[str, Any]) -> tuple[str, str]:
    """The prompts of a job in the syntax of commands."""
    prompt, negative = job.get("prompt") or "", job.get("negative_prompt") or ""
    return as_invokeai(prompt, negative, job.get("prompt_syntax") or "invokeai", old=True)


def _skip_normalize(job: dict[str, Any]) -> None:
    """2.3's `-x`: the weights behind colons blend as they are."""
    if job.pop("skip_normalize", False) and (parts := weighted_parts(job.get("prompt", ""))):
        job["prompt"] = invokeai_text(blend_of(parts, Remarks(), is_normalized=False))


def _seamless_switches(job: Mapping[str, Any]) -> str:
    letters = "".join(axis for axis in "xy" if job.get(f"seamless_{axis}"))
    return {"": "", "xy": " --seamless"}.get(letters, f" --seamless --seamless_axes {letters}")


def _variation_switches(variation: Mapping[str, Any]) -> str:
    listed = ",".join(f"{seed}:{weight}" for seed, weight in variation.get("with") or ())
    amount, seed = variation.get("amount"), variation.get("seed")
    switches = f" -v {amount}" if amount else ""
    switches += f" -V {listed}" if listed else ""
    return switches + (f" --variation_seed {seed}" if amount and seed is not None else "")


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


def _parts(line: str) -> tuple[str | None, str, str | None]:
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
            self.job[switch.key] = True
        else:
            self._take(switch.key, switch.kind, word, values[0])

    def _take(self, key: str, kind: Callable[[str], Any], word: str, value: str) -> None:
        try:
            read = kind(value)
        except ValueError:
            self.problems.append(Problem(f"{show(value)} is not {_NOUNS[kind]}.", word))
            return
        if key == "seed" and read < 0:
            message = f"{read} means the seed of an earlier picture, which a job does not know."
            self.problems.append(Problem(message, word, hint="Write the seed itself."))
            return
        # 2.3 rounds sizes down as well (to multiples of 64, which its own sizes are).
        table, _, name = key.rpartition(".")
        place = self.job.setdefault(table, {}) if table else self.job
        place[name] = read - read % 8 if key in ("width", "height") else read

    def _refuse(self, switch: Switch, word: str, values: list[str]) -> None:
        if switch.what and not (values and values[0] in switch.off):
            message = f"asks for {switch.what}: not supported yet."
            self.problems.append(Problem(message, word, hint="Remove the switch."))

    def _unknown(self, word: str, rest: _Words) -> None:
        if not word.startswith("-"):
            self.problems.append(Problem(f"{show(word)} belongs to no switch.", hint="Prompts come first."))
            return
        rest.values(_ANY_VALUE)
        meant = nearest(word.partition("=")[0], _BY_NAME)
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
    if word in _BY_NAME:
        return _BY_NAME[word], None
    name, equals, value = word.partition("=")
    if word.startswith("--"):
        return (_BY_NAME.get(name), value) if equals else (None, None)
    switch = _BY_NAME.get(word[:2])
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


def _is_special(line: str) -> bool:
    return line in ("", "q") or line.startswith(("#", "//", "!", '"'))


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)


def _word(value: Any) -> str:
    return shlex.quote(str(value))
