"""All benchmarks one after the other, on a machine with nothing else to do: some two and a quarter hours of two cores.

    python benchmarks/run.py FOLDER [--quick] [--only NAME ...]

FOLDER gets NAME.md with the table and NAME.jsonl with its rows for each. The minutes below were measured on two cores
with AMX, of mining on one without; what a run took is printed when it ends. One that fails does not stop the
others; the exit status then is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

MINUTES = {
    "embed": 10,
    "training": 54,
    "profile_step": 3,
    "caching": 12,
    "loader": 14,
    "losses": 32,
    "processes": 6,
    "checkpoints": 1,
    "mining": 4,
}


def benchmark(name: str, folder: Path, quick: bool) -> bool:
    """Run one script, its table on the screen and in the folder; whether it ended well."""
    command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--json", str(folder / f"{name}.jsonl")]
    command += ["--quick"] if quick else []
    print(f"\n## {name} (about {MINUTES[name]} minutes)\n", flush=True)
    started = time.perf_counter()
    with (folder / f"{name}.md").open("w") as table:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout or ():
            print(line, end="", flush=True)
            table.write(line)
    ended_well = process.wait() == 0
    print(f"\n{name}: {(time.perf_counter() - started) / 60:.1f} minutes{'' if ended_well else ', FAILED'}", flush=True)
    return ended_well


def main() -> int:
    """Run those asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where tables and rows go")
    parser.add_argument("--quick", action="store_true", help="each in its quick form: shows that it runs, no more")
    parser.add_argument("--only", nargs="+", choices=MINUTES, default=list(MINUTES), help="these alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    ended_well = [benchmark(name, options.folder, options.quick) for name in options.only]
    return int(not all(ended_well))


if __name__ == "__main__":
    sys.exit(main())
