"""Job keys as a prompt command of 2.3. Called by `metadata --command`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from invokeai_daemon.job.commands import pictures
from invokeai_daemon.job.commands.reading import parts
from invokeai_daemon.job.plan import USUAL
from invokeai_daemon.job.prompt.legacy import split_negative
from invokeai_daemon.job.prompt.understand import as_invokeai, understand, with_prompts_loras
from invokeai_daemon.job.schedulers import SAMPLERS_23
from invokeai_daemon.job.schema import Lora

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
            "vae",
            "guidance",
        )
    ),
)
#: Keys of a job that no command can say.
_UNSAID = ("style_prompt", "negative_style_prompt", "controlnets", "t2i_adapters", "ip_adapters", "refiner", "seeds")
#: The names that `withLora(…)` can hold.
_LORA_NAME = re.compile(r"[A-Za-z0-9_-]+")


def to_command(job: Mapping[str, Any]) -> str:
    """Job keys as a prompt command that `parse_command` reads back; a line break in a prompt becomes a space.

    What `unsaid` names is left out.
    """
    if job.get("scheduler") is not None:
        job = {**job, "scheduler": SAMPLERS_23.get(job["scheduler"], job["scheduler"])}
    positive, negative = (_one_line(text) for text in _prompts(job))
    positive = " ".join([*([positive] if positive else []), *(_with_lora(each) for each in _loras(job))])
    written = f"{positive} [{negative}]" if negative else positive
    extra = ""
    if split_negative(written) != (positive, negative or None):
        written, extra = positive, f" --negative_prompt={shlex.quote(negative)}"
    if parts(written) != (written, "", None) or written != written.strip() or _is_special(written):
        written = '"' + written.replace("\\", "\\\\").replace('"', '\\"') + '"'
    switches = "".join(
        f" {flag}{_word(job[key])}" for flag, key in _WRITTEN if job.get(key) not in (None, USUAL.get(key))
    )
    switches += " -t" if job.get("log_tokenization") else ""
    switches += _seamless_switches(job) + _variation_switches(job.get("variation") or {})
    switches += "".join(f" {_one_line(switch)}" for switch in pictures.switches(job))
    trailer = f" # model_id={job['model']}" if job.get("model") else ""
    return f"{written}{switches}{extra}{trailer}"


def unsaid(job: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a job that a command cannot say, dotted within tables."""
    yield from (key for key in _UNSAID if job.get(key))
    for number, lora in enumerate(_loras(job)):
        if lora.text_encoder_weight is not None or not _LORA_NAME.fullmatch(lora.name):
            yield f"loras[{number}]"
    yield from pictures.unsaid(job)


def _prompts(job: Mapping[str, Any]) -> tuple[str, str]:
    """The prompts of a job in the syntax of commands, without LoRAs."""
    prompt, negative = job.get("prompt") or "", job.get("negative_prompt") or ""
    return as_invokeai(prompt, negative, _syntax(job), old=True)


def _loras(job: Mapping[str, Any]) -> tuple[Lora, ...]:
    """The LoRAs of a job, in its list or in its prompt."""
    asked = [Lora(**each) for each in job.get("loras") or ()]
    return with_prompts_loras(asked, understand(job.get("prompt") or "", "", _syntax(job)))


def _syntax(job: Mapping[str, Any]) -> str:
    return job.get("prompt_syntax") or "invokeai"


def _with_lora(lora: Lora) -> str:
    return f"withLora({lora.name})" if lora.weight is None else f"withLora({lora.name},{lora.weight})"


def _seamless_switches(job: Mapping[str, Any]) -> str:
    letters = "".join(axis for axis in "xy" if job.get(f"seamless_{axis}"))
    return {"": "", "xy": " --seamless"}.get(letters, f" --seamless --seamless_axes {letters}")


def _variation_switches(variation: Mapping[str, Any]) -> str:
    listed = ",".join(f"{seed}:{weight}" for seed, weight in variation.get("with") or ())
    amount, seed = variation.get("amount"), variation.get("seed")
    switches = f" -v {amount}" if amount else ""
    switches += f" -V {listed}" if listed else ""
    return switches + (f" --variation_seed {seed}" if amount and seed is not None else "")


def _is_special(line: str) -> bool:
    return line in ("", "q") or line.startswith(("#", "//", "!", '"'))


def _one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)


def _word(value: Any) -> str:
    """A value behind its switch, tied to it where it would be taken for a switch itself."""
    word = str(value)
    return ("=" if word.startswith("-") else " ") + shlex.quote(word)
