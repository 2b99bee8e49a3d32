"""The error tree. A message says what, where, what was seen and what to do next; the docstring is the default message.

Two kinds steer the daemon: permanent errors (the user must act) and temporary ones (the job waits or tries again).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake in a file that a person wrote."""

    #: What is wrong, with the value that was seen and the rule: a sentence.
    message: str
    #: The key in dotted form, "loras[0].name"; empty when the problem is not about one key.
    key: str = ""
    #: 1-based line in the file; None when it is not known.
    line: int | None = None
    #: What to do: the nearest valid name or values; may be empty.
    hint: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        name = f"{self.key}: " if self.key else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{name}{self.message}{hint}"


class DaemonError(Exception):
    """Something went wrong in invokeai-daemon."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class RootNotFound(DaemonError):
    """No root was found: make one with `invokeai-daemon init DIR`, or name one with --root."""


class RootInUse(DaemonError):
    """Another daemon holds this root."""

    def __init__(self, root: str, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{root} is already served by {holder}. Stop that daemon first, or serve another root.")


class ProblemsError(DaemonError):
    """A file has mistakes; `problems` lists them all."""

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{where}: {problem}" for problem in self.problems))


class SettingsError(ProblemsError):
    """The settings are unusable; the daemon cannot start."""


class JobError(ProblemsError):
    """A job cannot be run as it is written; permanent until the user changes it."""


class NoRecord(JobError):
    """A picture is sound and does not say how it was made."""


class ModelError(DaemonError):
    """A model file or folder cannot be used."""


class UnreadableModel(ModelError):
    """The file is truncated, or is not a weight file."""


class UnsafeModel(ModelError):
    """The pickle in the file asks for code."""

    def __init__(self, message: str, global_name: str) -> None:
        self.global_name = global_name
        super().__init__(message)


class UnknownModel(ModelError):
    """The file is a weight file of no known family."""

    def __init__(self, message: str, nearest: Iterable[tuple[str, str]] = ()) -> None:
        #: The families that came close, each with the fact that ruled it out.
        self.nearest = tuple(nearest)
        super().__init__(message)


class AmbiguousModel(ModelError):
    """The facts fit several families."""

    def __init__(self, message: str, candidates: Iterable[str]) -> None:
        self.candidates = tuple(candidates)
        super().__init__(message)


class IncompleteModel(ModelError):
    """The family is recognised, but tensors of the model are missing or have shapes that it cannot have."""

    def __init__(self, message: str = "", parts: Iterable[str] = ()) -> None:
        #: The parts whose absence is all that is wrong ("vae", "text_encoder"); none when the file itself is damaged.
        self.parts = tuple(parts)
        super().__init__(message)


class DiskFull(DaemonError):
    """There is too little room on the disk; temporary."""


class SidecarError(ProblemsError, ModelError):
    """The sidecar beside a model has mistakes."""


class ModelMissing(ModelError):
    """No such model is registered, or its files are gone; temporary, since it may still arrive."""


class UnfitModel(ModelError):
    """No job can render with this model, whatever arrives; permanent until the job names another."""


class InstallError(ModelError):
    """A model cannot be fetched."""


class NotASource(InstallError):
    """The text names nothing that can be fetched."""


class FetchInterrupted(InstallError):
    """The download broke off; temporary, and it goes on where it stopped."""

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        #: Seconds after which the server wants to be asked again; None when it did not say.
        self.retry_after = retry_after
        super().__init__(message)


class RenderError(DaemonError):
    """An image could not be rendered."""
