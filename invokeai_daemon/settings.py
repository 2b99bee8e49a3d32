"""Settings: `configs/daemon.toml`, overridden by environment variables, overridden by flags.

Every key has a default, so the file may be empty or absent.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from invokeai_daemon.errors import Problem, SettingsError
from invokeai_daemon.strict_toml import read_toml, validate

ENVIRONMENT_PREFIX = "INVOKEAI_DAEMON_"
#: Variables with the prefix that are no settings.
NOT_SETTINGS = {"INVOKEAI_DAEMON_ROOT"}


class Table(BaseModel):
    """A table of daemon.toml: unknown keys are errors, values are not coerced, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RenderSettings(Table):
    """Where and how images are rendered."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto probes the device for the fastest sound type"
    )
    max_lanes: int = Field(16, ge=1, le=256, description="images that may share one UNet forward")
    cache_gb: float = Field(0.0, ge=0, description="memory for loaded models in GB; 0 takes a share of what is there")
    memory_gb: float = Field(
        0.0, ge=0, description="memory of the device that may be used at all, in GB; 0 takes all there is"
    )
    vae_precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the VAE; auto is that of the rest, and float32 where that would harm pictures"
    )
    vae_tiling: Literal["auto", "always", "never"] = Field(
        "auto", description="large pictures are decoded piece by piece: auto where memory is short, always or never"
    )
    threads: int = Field(0, ge=0, description="CPU threads of the renderer; 0 takes all cores")


class WatchSettings(Table):
    """How new files are noticed."""

    rescan_seconds: float = Field(120.0, gt=0, description="a full scan this often, whatever the events said")
    poll_seconds: float = Field(5.0, gt=0, description="scan interval of folders that give no events")
    job_quiet_seconds: float = Field(2.0, ge=0, description="unchanged this long, when nothing proves a job complete")
    model_quiet_seconds: float = Field(10.0, ge=0, description="the same for models")
    force_polling: bool = Field(False, description="never use events")


class ImportSettings(Table):
    """What becomes of models."""

    after_import: Literal["keep", "delete"] = Field(
        "keep", description="delete removes a file from autoimport/ once its converted copy is on disk and verified"
    )
    timeout_seconds: float = Field(3600.0, gt=0, description="an import that takes longer is given up")
    memory_mb: int = Field(4096, ge=256, description="address space of the importer beyond the mapped model file")
    cpu_seconds: int = Field(600, ge=10, description="processor time that looking at one file may take")
    use_ema: bool = Field(False, description="take the averaged weights of a checkpoint that holds both")
    dtype: Literal["keep", "float32", "float16", "bfloat16"] = Field("keep", description="what converted models hold")
    thumbnails: bool = Field(
        True, description="render a small picture of a new main model when there is nothing else to do"
    )


class InstallSettings(Table):
    """How models are fetched."""

    drops: bool = Field(True, description="fetch what .url, .webloc, .txt and .toml files in autoimport/ ask for")
    tokens: dict[str, str] = Field(default_factory=dict, description="host -> token that is sent to it")
    hub_endpoint: str = Field("", description="another Hugging Face hub; empty is the public one")
    retries: int = Field(5, ge=0, description="tries of a broken download, which goes on where it stopped")
    timeout_seconds: float = Field(30.0, gt=0, description="a server silent for longer counts as broken off")
    max_gb: float = Field(100.0, gt=0, description="a larger file is not fetched")
    allow_private: bool = Field(False, description="fetch from addresses of this machine and the local network too")


class OutputSettings(Table):
    """How results are written."""

    file_name: str = Field(
        "{number:04}.{seed}.png", description="fields: job number seed model width height steps cfg_scale scheduler"
    )
    png_compression: int = Field(3, ge=0, le=9, description="zlib level of the pictures")


class LimitSettings(Table):
    """Bounds that keep one job from taking everything."""

    max_images: int = Field(10_000, ge=1, description="images of one job")
    max_pixels: int = Field(4096 * 4096, ge=4096, description="width × height of one image")
    job_bytes: int = Field(64 * 1024, ge=1024, description="size of a job file")
    image_folders: list[Annotated[str, Field(pattern=r"^/")]] = Field(
        default_factory=list, description="absolute paths outside of the root from which jobs may name pictures"
    )
    image_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="size of a picture that a job names")
    attempts: int = Field(3, ge=1, description="tries of one image whose worker died")
    step_seconds: float = Field(600.0, gt=0, description="a renderer silent for longer is replaced")
    free_gb: float = Field(0.5, ge=0, description="new work waits while the disk has less room than this")


class NotifySettings(Table):
    """Who is told (hooks are programs that get the event as JSON on standard input)."""

    hook: str = Field("", description="a program to run when a job is done or failed, or a model imported or rejected")


class ServiceSettings(Table):
    """What the systemd unit says."""

    watchdog_seconds: int = Field(60, ge=10)
    stop_seconds: int = Field(90, ge=5, description="how long a stop may take before systemd kills")


class Settings(Table):
    """All of `configs/daemon.toml`."""

    render: RenderSettings = RenderSettings()
    defaults: dict[str, Any] = Field(default_factory=dict, description="any job key, for jobs that do not set it")
    watch: WatchSettings = WatchSettings()
    import_: ImportSettings = Field(default_factory=ImportSettings, alias="import")
    install: InstallSettings = InstallSettings()
    output: OutputSettings = OutputSettings()
    limits: LimitSettings = LimitSettings()
    notify: NotifySettings = NotifySettings()
    service: ServiceSettings = ServiceSettings()


def load_settings(
    path: Path, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """The settings of a root. `flags` are tables of values from the command line.

    Raises SettingsError with every problem of the file and of the environment.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        text = b""
    document = read_toml(text, str(path), SettingsError)
    overridden, problems = _from_environment(environ)
    for tables in (overridden, flags or {}):
        for table, values in tables.items():
            written = document.data.setdefault(table, {})
            # Something else than a table is a mistake that the validation names.
            if isinstance(written, dict):
                written.update(values)
    if problems:
        raise SettingsError("environment", problems)
    return validate(Settings, document, SettingsError)


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """INVOKEAI_DAEMON_RENDER_MAX_LANES=4 is [render] max_lanes = 4: values are TOML, or plain text."""
    tables: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for name, raw in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        table, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if not key:
            problems.append(Problem(f"{name} names no setting", hint=f"Write {ENVIRONMENT_PREFIX}<TABLE>_<KEY>."))
            continue
        tables.setdefault(table, {})[key] = _value(raw)
    return tables, problems


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
