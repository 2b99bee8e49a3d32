"""service: a unit that systemd takes, that knows its root and its program, and whose walls a renderer can live with."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from invokeai_daemon.cli import service
from invokeai_daemon.cli.unit import Unit, argument, quoted
from invokeai_daemon.root import Root
from tests.conftest import Program


def unit(**changed: object) -> str:
    facts = {
        "root": Path("/srv/pictures"),
        "python": Path("/opt/venv/bin/python"),
        "account": None,
        "watchdog_seconds": 60,
        "stop_seconds": 90,
        "network": False,
    }
    return Unit(**(facts | changed)).text()  # type: ignore[arg-type]


def test_the_unit_runs_this_python_on_this_root(program: Program, root: Root) -> None:
    text = program("service", "show").stdout
    assert f"ExecStart={sys.executable} -m invokeai_daemon run --root {root.path}\n" in text
    assert "Type=notify\n" in text
    assert "WatchdogSec=60\n" in text
    assert "TimeoutStopSec=90\n" in text


def test_the_units_times_come_from_the_settings(root: Root) -> None:
    root.settings_file.write_text("[service]\nwatchdog_seconds = 20\nstop_seconds = 33\n")
    text = service.unit_for(root, system=False, account=None)
    assert "WatchdogSec=20\n" in text
    assert "TimeoutStopSec=33\n" in text


def test_unusable_settings_make_no_unit(program: Program, root: Root) -> None:
    root.settings_file.write_text("[service]\nwatchdog = 20\n")
    refused = program("service", "show")
    assert refused.returncode == 78
    assert "watchdog_seconds" in refused.stderr


def test_a_unit_of_the_machine_names_its_account_and_may_write_the_root_alone(program: Program, root: Root) -> None:
    text = program("service", "show", "--system", "--account", "painter").stdout
    assert "User=painter\n" in text
    assert "ProtectSystem=strict\n" in text
    assert f"ReadWritePaths={root.path}\n" in text
    assert "WantedBy=multi-user.target" in text


def test_a_unit_of_one_user_raises_only_walls_that_need_no_privilege() -> None:
    text = unit()
    assert "NoNewPrivileges=yes" in text
    assert [
        word for word in ("User=", "ProtectSystem", "PrivateTmp", "Capability", "DevicePolicy") if word in text
    ] == []
    assert "WantedBy=default.target" in text


def test_walls_that_would_stop_a_renderer_are_left_out() -> None:
    text = unit(account="painter")
    for wall in ("MemoryDenyWriteExecute", "PrivateDevices", "ProcSubset", "@resources", "RestrictNamespaces"):
        assert wall not in text
    for device in ("char-nvidia rw", "char-nvidia-uvm rw", "char-drm rw"):
        assert f"DeviceAllow={device}\n" in text


def test_a_home_is_out_of_sight_unless_the_root_or_the_program_lives_there() -> None:
    assert "ProtectHome=yes\n" in unit(account="painter")
    for path in ({"root": Path("/home/ann/pictures")}, {"python": Path("/home/ann/venv/bin/python")}):
        assert "ProtectHome=read-only\n" in unit(account="painter", **path)


def test_the_network_is_cut_when_nothing_is_fetched_and_no_hook_may_want_it(root: Root) -> None:
    open_unit = service.unit_for(root, system=True, account=None)
    assert "PrivateNetwork" not in open_unit
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n" in open_unit
    root.settings_file.write_text("[install]\ndrops = false\n")
    assert "PrivateNetwork=yes" in service.unit_for(root, system=True, account=None)
    root.settings_file.write_text('[install]\ndrops = false\n[notify]\nhook = "/usr/local/bin/tell"\n')
    assert "PrivateNetwork" not in service.unit_for(root, system=True, account=None)


@pytest.mark.parametrize(
    ("path", "word", "in_command"),
    [
        ("/srv/a", "/srv/a", "/srv/a"),
        ("/srv/my pictures", '"/srv/my pictures"', '"/srv/my pictures"'),
        ("/srv/100%", "/srv/100%%", "/srv/100%%"),
        ("/srv/$a", "/srv/$a", "/srv/$$a"),
        ('/srv/"a"\\', '"/srv/\\"a\\"\\\\"', '"/srv/\\"a\\"\\\\"'),
    ],
)
def test_any_path_is_one_word(path: str, word: str, in_command: str) -> None:
    assert quoted(Path(path)) == word
    assert argument(Path(path)) == in_command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, system: bool) -> None:
    folder = tmp_path / "my 100% pictures"
    folder.mkdir()
    path = tmp_path / service.UNIT_NAME
    path.write_text(unit(root=folder, python=Path(sys.executable), account="root" if system else None))
    assert service.verify(path, system) == []
    path.write_text(path.read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    assert service.verify(path, system) != []


def test_install_writes_the_unit_and_uninstall_removes_it(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "home" / ".config" / "systemd" / "user" / service.UNIT_NAME
    done = program("service", "install", "--no-start")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == program("service", "show").stdout
    assert "systemctl --user enable --now" in done.stdout
    assert program("service", "uninstall").returncode == 0
    assert not path.exists()
    assert program("service", "uninstall").returncode == 1


def test_without_systemd_install_says_so(program: Program, tmp_path: Path, root: Root) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path / "home"), "INVOKEAI_DAEMON_ROOT": str(root.path)}
    done = program("service", "install", env=environment)
    assert done.returncode == 1
    assert "this machine has no systemd" in done.stderr
