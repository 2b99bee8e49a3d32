"""Names of result files: a template and an image make one, the same one every time. Safe on Linux, SMB and Windows."""

from __future__ import annotations

import hashlib
import re
import string

from invokeai_daemon.errors import Problem, SettingsError
from invokeai_daemon.job.plan import Image, Plan
from invokeai_daemon.strict_toml import nearest, show

#: Bytes of a name; leaves room for suffixes below the usual limit of 255.
MAX_BYTES = 200

_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_name(text: str, max_bytes: int = MAX_BYTES) -> str:
    """A text as one file name. A cut name ends with a hash of the whole, so that two long texts stay two names."""
    safe = _UNSAFE.sub("_", text.encode("utf-8", "replace").decode()).strip(". ") or "_"
    if _RESERVED.match(safe) or safe[0] in "-~":
        safe = f"_{safe}"
    raw = safe.encode()
    if len(raw) <= max_bytes:
        return safe
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return raw[: max_bytes - 9].decode("utf-8", "ignore") + "-" + mark


def image_name(plan: Plan, image: Image) -> str:
    """The file name of an image: a pure function of the plan and the image. The template must have been checked."""
    filled = plan.file_name.format_map(_values(plan.job_id, plan.model.name, image))
    return safe_name(filled.removesuffix(".png"), MAX_BYTES - 4) + ".png"


def check_template(template: str, where: str = "output.file_name") -> None:
    """Raises SettingsError when a template of file names cannot be filled, or would give two images one name."""
    problem = _template_problem(template)
    if problem:
        raise SettingsError(where, [problem])


def _values(job_id: str, model: str, image: Image) -> dict[str, str | int | float]:
    return {
        "job": job_id,
        "number": image.number,
        "seed": image.seed,
        "model": model,
        "width": image.width,
        "height": image.height,
        "steps": image.steps,
        "cfg_scale": image.cfg_scale,
        "scheduler": image.scheduler,
    }


_SAMPLE = _values("job", "model", Image(1, 2, "", "", 512, 512, 30, 7.5, "euler"))
FIELDS = tuple(_SAMPLE)


def _template_problem(template: str) -> Problem | None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        unknown = sorted(names - set(FIELDS))
        if unknown:
            return _no_such_field(unknown[0])
        template.format_map(_SAMPLE)
    except (ValueError, KeyError) as failure:
        return Problem(f"{show(template)} is no template: {failure}.", hint='Write it like "{number:04}.{seed}.png".')
    if "number" not in names:
        return Problem(f"{show(template)} lacks {{number}}.", hint="Without it two images could get one name.")
    return None


def _no_such_field(name: str) -> Problem:
    meant = nearest(name, FIELDS)
    hint = f"Did you mean {{{meant}}}?" if meant else f"The fields are {', '.join(FIELDS)}."
    return Problem(f"{{{name}}} is no field of a file name.", hint=hint)
