"""Measure how well a demo checkpoint follows its prompts, by rendering through the daemon itself.

    python -m demo_model.evaluate [CHECKPOINT] [--seeds 3] [--sheet sheet.png]

The prompts are scenes that training never saw. A picture is right when shape, colour and background are all as asked.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from demo_model.recognise import recognise
from demo_model.scenes import SIZE, Scene, split
from invokeai_daemon.root import Root

BUNDLED = Path(__file__).parent.parent / "invokeai_daemon" / "data" / "demo.safetensors"


@dataclass(frozen=True)
class Outcome:
    """One rendered picture: what was asked, and what was seen (None: no shape that can be told)."""

    wanted: Scene
    file: Path
    seen: Scene | None

    @property
    def right(self) -> bool:
        return self.seen == self.wanted


def evaluate(checkpoint: Path, scenes: list[Scene], seeds: int, folder: Path, extra: str = "") -> list[Outcome]:
    """Render every scene with `seeds` seeds in a new root under `folder`; `extra` is added to each job."""
    root = Root(folder)
    root.make()
    for file in (checkpoint, BUNDLED.with_suffix(".toml")):
        shutil.copy(file, root.autoimport / "main" / f"demo{file.suffix}")
    for name, job in jobs_of(scenes, seeds, extra).items():
        (root.inbox / f"{name}.toml").write_text(job)
    subprocess.run([sys.executable, "-m", "invokeai_daemon", "run", "--root", str(folder), "--once"], check=True)
    return outcomes_of(scenes, root.outputs)


def jobs_of(scenes: list[Scene], seeds: int, extra: str = "") -> dict[str, str]:
    """A job for each scene, by its name."""
    return {
        f"scene-{number:04}": f'prompt = "{scene.caption()}"\nseed = {1000 * number}\niterations = {seeds}\n{extra}'
        for number, scene in enumerate(scenes)
    }


def outcomes_of(scenes: list[Scene], outputs: Path) -> list[Outcome]:
    """What is seen in the pictures of these jobs."""
    outcomes = []
    for number, scene in enumerate(scenes):
        for file in sorted((outputs / f"scene-{number:04}").glob("*.png")):
            seen = recognise(Image.open(file))
            outcomes.append(Outcome(scene, file, seen.scene if seen else None))
    return outcomes


def share_right(outcomes: list[Outcome]) -> float:
    return sum(outcome.right for outcome in outcomes) / len(outcomes)


def contact_sheet(files: list[Path], columns: int, size: int = SIZE) -> Image.Image:
    """The pictures in rows, without gaps."""
    rows = -(-len(files) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for place, file in enumerate(files):
        sheet.paste(Image.open(file).resize((size, size)), (place % columns * size, place // columns * size))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=BUNDLED)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=None, help="only this many of the held-out scenes")
    parser.add_argument("--extra", default="", help="TOML lines added to each job")
    parser.add_argument("--sheet", type=Path, help="write the pictures as one contact sheet")
    wanted = parser.parse_args()
    _, held_out = split()
    scenes = held_out[: wanted.scenes]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = evaluate(wanted.checkpoint, scenes, wanted.seeds, Path(folder) / "root", wanted.extra)
        if wanted.sheet:
            contact_sheet([outcome.file for outcome in outcomes], 4 * wanted.seeds).save(wanted.sheet)
        report(outcomes)


def report(outcomes: list[Outcome]) -> None:
    for part in ("shape", "colour", "background"):
        right = sum(o.seen is not None and getattr(o.seen, part) == getattr(o.wanted, part) for o in outcomes)
        print(f"{part}: {right / len(outcomes):.1%}")
    wrong = Counter((o.wanted.shape, o.seen.shape if o.seen else "nothing") for o in outcomes if not o.right)
    for (wanted, seen), count in wrong.most_common(5):
        print(f"  wrong {count}×: asked for a {wanted}, saw a {seen}")
    print(f"right: {share_right(outcomes):.1%} of {len(outcomes)} held-out pictures (must: at least 95 %)")


if __name__ == "__main__":
    main()
