"""Nothing is fetched: a model dropped and a job dropped become a picture where there is no network at all."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from demo_model.evaluate import BUNDLED
from invokeai_daemon.root import Root

CUT_OFF = ("unshare", "--map-root-user", "--net")


def can_cut_off() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*CUT_OFF, "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_cut_off(), reason="cutting the network needs user namespaces")
def test_a_checkpoint_becomes_a_model_and_a_job_a_picture_without_a_network(root: Root) -> None:
    shutil.copy(BUNDLED, root.autoimport / "main" / "demo.safetensors")
    (root.inbox / "star.toml").write_text('prompt = "a yellow star"\nwidth = 64\nheight = 64\nsteps = 2\nseed = 1\n')
    command = [*CUT_OFF, sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path), "--once"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert (root.outputs / "star" / "0001.1.png").exists(), ended.stderr
