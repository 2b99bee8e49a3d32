"""One daemon renders what all modules here ask for: its renderer starts once, and their jobs share its forwards.

A module says its jobs in `JOBS`, by the names of their files, and lays out with `lay_out(root)` what they need besides
the demo model, if anything. Run alone, it has only its own jobs rendered.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo_model.evaluate import BUNDLED
from invokeai_daemon.root import Root

#: A second main model may be there; test pictures would share the renderer with what is tested.
SETTINGS = '[defaults]\nmodel = "demo"\n[import]\nthumbnails = false\n[watch]\njob_quiet_seconds = 0.3\n'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for all pictures."""
    for item in items:
        if "outputs" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def outputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of every job of the modules whose tests are run."""
    root = Root(tmp_path_factory.mktemp("demo"))
    root.make()
    root.settings_file.write_text(SETTINGS)
    for file in (BUNDLED, BUNDLED.with_suffix(".toml")):
        shutil.copy(file, root.autoimport / "main" / f"demo{file.suffix}")
    wanting = (item for item in request.session.items if "outputs" in getattr(item, "fixturenames", ()))
    for module in dict.fromkeys(item.module for item in wanting):  # type: ignore[attr-defined]
        if hasattr(module, "lay_out"):
            module.lay_out(root)
        for name, text in module.JOBS.items():
            # No two modules may have a job of the same name.
            with (root.inbox / f"{name}.toml").open("x") as job:
                job.write(text)
    subprocess.run([sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path), "--once"], check=True)
    return root.outputs
