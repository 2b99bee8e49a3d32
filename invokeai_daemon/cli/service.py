"""`service`: the systemd unit that keeps the daemon running, for one user or for the machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from invokeai_daemon.cli.options import with_root
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.files import write_atomically
from invokeai_daemon.root import Root
from invokeai_daemon.settings import load_settings

UNIT_NAME = "invokeai-daemon.service"
SYSTEM_FOLDER = Path("/etc/systemd/system")

system_option = click.option("--system", is_flag=True, help="For the machine (needs root) instead of for you alone.")


class ServiceError(DaemonError):
    """The service could not be set up."""


@click.group()
def service() -> None:
    """The systemd unit: show, install, uninstall."""


@service.command()
@system_option
@click.option("--account", metavar="NAME", help="Who a --system daemon runs as (default: you).")
@with_root
def show(root: Root, system: bool, account: str | None) -> None:
    """Print the unit that `install` would write."""
    click.echo(unit_for(root, system, account), nl=False)


@service.command()
@system_option
@click.option("--account", metavar="NAME", help="Who a --system daemon runs as (default: you).")
@click.option("--no-start", is_flag=True, help="Write the unit only.")
@with_root
def install(root: Root, system: bool, account: str | None, no_start: bool) -> None:
    """Write the unit, check it, and start it now and at every boot (for --user units: at every login)."""
    path = unit_path(system)
    _write_unit(path, unit_for(root, system, account))
    click.echo(f"Wrote {path}.")
    for complaint in verify(path, system):
        click.echo(f"systemd-analyze: {complaint}", err=True)
    if no_start:
        click.echo(f"Start it with: {_words(system, 'enable', '--now', UNIT_NAME)}")
        return
    _systemctl(system, "daemon-reload")
    _systemctl(system, "enable", "--now", UNIT_NAME)
    click.echo(f"Running. Its log: journalctl {'' if system else '--user '}-u {UNIT_NAME} -f")
    if not system:
        click.echo("To have it run while you are logged out: loginctl enable-linger")


@service.command()
@system_option
def uninstall(system: bool) -> None:
    """Stop the daemon and remove the unit. The root stays as it is."""
    path = unit_path(system)
    if not path.exists():
        raise ServiceError(f"{path} is not there: nothing is installed.")
    if shutil.which("systemctl"):
        subprocess.run(_systemctl_command(system, "disable", "--now", UNIT_NAME), check=False, capture_output=True)
    path.unlink()
    click.echo(f"Removed {path}.")


def unit_path(system: bool) -> Path:
    if system:
        return SYSTEM_FOLDER / UNIT_NAME
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "systemd" / "user" / UNIT_NAME


def unit_for(root: Root, system: bool, account: str | None) -> str:
    """The unit of this root, this program and these settings. Raises SettingsError."""
    from invokeai_daemon.cli.unit import Unit

    settings = load_settings(root.settings_file)
    return Unit(
        root=root.path,
        python=Path(sys.executable),
        account=(account or os.environ.get("SUDO_USER") or getpass.getuser()) if system else None,
        watchdog_seconds=settings.service.watchdog_seconds,
        stop_seconds=settings.service.stop_seconds,
        # A hook may want to send mail or call a web address, a drop may name a model to fetch; nothing else does.
        network=settings.install.drops or bool(settings.notify.hook),
    ).text()


def verify(path: Path, system: bool) -> list[str]:
    """What systemd-analyze says of a unit file; nothing where there is no systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return []
    command = [program, "--system" if system else "--user", "verify", str(path)]
    # Of a user who is not logged in systemd-analyze knows no such folder, and then says nothing at all.
    environment = {"XDG_RUNTIME_DIR": tempfile.gettempdir()} | os.environ
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return [line for line in checked.stderr.splitlines() if path.name in line]


def _write_unit(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except PermissionError as error:
        raise ServiceError(f"{path} cannot be written: {error.strerror}. Run this as root (sudo).") from error


def _systemctl(system: bool, *words: str) -> None:
    if shutil.which("systemctl") is None:
        raise ServiceError("systemctl is not there: this machine has no systemd. Run `invokeai-daemon run` yourself.")
    done = subprocess.run(_systemctl_command(system, *words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"`{_words(system, *words)}` failed: {done.stderr.strip()}")


def _systemctl_command(system: bool, *words: str) -> list[str]:
    return ["systemctl", *([] if system else ["--user"]), *words]


def _words(system: bool, *words: str) -> str:
    return " ".join(_systemctl_command(system, *words))
