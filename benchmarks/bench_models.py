"""What is promised about model files, at full size: exits 1 when a bound is missed.

    python -m benchmarks.bench_models              # everything; wants 25 GB of disk and 16 GB of memory
    python -m benchmarks.bench_models conversion   # one section

Each section is a module of its own; it prints its figures and gives whether they are within their bounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import bench_conversion, bench_identify, bench_reflink, bench_scale

Section = Callable[[Path], bool]
#: Name -> what it measures.
SECTIONS: Mapping[str, Section] = {
    # Looking at a header costs some milliseconds.
    "identify": bench_identify.run,
    # An import costs about one `cp`, little memory, and gives what diffusers gives.
    "conversion": bench_conversion.run,
    # Where the file system shares blocks, no bytes move.
    "reflink": bench_reflink.run,
    # Thousands of LoRAs at once, and a start that knows them.
    "scale": bench_scale.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--scratch", type=Path, help="a folder on the disk to measure; the temporary one by default")
    wanted = parser.parse_args()
    missed = []
    for name in wanted.sections or SECTIONS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(dir=wanted.scratch) as scratch:
            if not SECTIONS[name](Path(scratch)):
                missed.append(name)
    print(f"missed: {', '.join(missed)}" if missed else "all within their bounds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
