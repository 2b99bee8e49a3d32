"""diffusers' own conversion of a checkpoint, offline, in a process of its own: what ours is compared with.

    python -m benchmarks.diffusers_conversion model.safetensors OUR_FOLDER TARGET

Configs are taken from our folder. Called by `bench_import`; needs twice the file's size of memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    source, ours, target = sys.argv[1:]
    import diffusers
    import torch

    index = json.loads((Path(ours) / "model_index.json").read_text())
    # SD-1's pipeline would look for a safety checker.
    more = {"safety_checker": None} if "safety_checker" in index else {}
    pipeline = getattr(diffusers, index["_class_name"]).from_single_file(
        source, config=ours, torch_dtype=torch.float16, local_files_only=True, **more
    )
    pipeline.save_pretrained(target)


if __name__ == "__main__":
    main()
