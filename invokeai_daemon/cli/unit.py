"""The text of the systemd unit. Pure: what is asked for goes in, text comes out.

A unit for the machine gets every wall that a renderer on a CPU or an NVIDIA or AMD card can live with. A unit of one
user gets those that need no user namespaces, which many distributions forbid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: Walls that need no privilege to raise.
WALLS = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @obsolete
SystemCallErrorNumber=EPERM
"""

#: Walls that only the system's manager can raise.
#: Left open on purpose: MemoryDenyWriteExecute (CUDA and Triton compile while they run), PrivateDevices (hides the
#: cards), ProcSubset (memory and CPU are read from /proc), @resources (thread pools pin their threads),
#: RestrictNamespaces (the importer cuts itself off from the network with one).
SYSTEM_WALLS = """\
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RemoveIPC=yes
KeyringMode=private
DevicePolicy=closed
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
DeviceAllow=char-drm rw
DeviceAllow=/dev/kfd rw
"""

NO_NETWORK = """\
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
"""

#: For hooks and downloads: the web, and how the system looks names up.
NETWORK = """\
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


@dataclass(frozen=True)
class Unit:
    """What differs between units."""

    root: Path
    #: The interpreter of the environment that the daemon is installed in.
    python: Path
    #: Who runs it, for a unit of the machine; None for a unit of one user.
    account: str | None
    watchdog_seconds: int
    stop_seconds: int
    #: Whether it may use the network.
    network: bool

    def text(self) -> str:
        return "\n".join([self._unit(), self._service() + self._walls(), self._install()])

    def _unit(self) -> str:
        late = "After=nvidia-persistenced.service\n" if self.account else ""
        return f"""\
[Unit]
Description=invokeai-daemon of {escaped(self.root)}
RequiresMountsFor={quoted(self.root)}
{late}StartLimitIntervalSec=300
StartLimitBurst=5
"""

    def _service(self) -> str:
        account = f"User={self.account}\n" if self.account else ""
        return f"""\
[Service]
Type=notify
NotifyAccess=main
{account}ExecStart={argument(self.python)} -m invokeai_daemon run --root {argument(self.root)}
WorkingDirectory={escaped(self.root)}
Environment=HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 {quoted(f"HF_HOME={self.root}/.state/huggingface")}
TimeoutStartSec=300
WatchdogSec={self.watchdog_seconds}
TimeoutStopSec={self.stop_seconds}
KillMode=mixed
Restart=on-failure
RestartSec=5
# Another daemon holds the root, or the settings are unusable: trying again would not help.
RestartPreventExitStatus=75 78
# A worker killed for its memory is replaced by the daemon.
OOMPolicy=continue
UMask=0002
"""

    def _walls(self) -> str:
        if self.account is None:
            return WALLS
        return WALLS + SYSTEM_WALLS + self._homes() + (NETWORK if self.network else NO_NETWORK)

    def _homes(self) -> str:
        """Homes are out of sight, unless the root or the program lives in one."""
        in_home = any(path.is_relative_to(home) for path in (self.root, self.python) for home in HOMES)
        return f"ProtectHome={'read-only' if in_home else 'yes'}\nReadWritePaths={quoted(self.root)}\n"

    def _install(self) -> str:
        return f"""\
[Install]
WantedBy={"multi-user.target" if self.account else "default.target"}
"""


HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


def escaped(text: str | Path) -> str:
    """Text for a unit file, where `%` starts a specifier."""
    return str(text).replace("%", "%%")


def quoted(text: str | Path) -> str:
    """One word of a list in a unit file."""
    word = escaped(text)
    if re.fullmatch(r"[\w@%+=:,./$-]+", word, re.ASCII):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def argument(text: str | Path) -> str:
    """One word of a command in a unit file, where `$` starts a variable too."""
    return quoted(text).replace("$", "$$")
