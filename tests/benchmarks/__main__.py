"""`make bench`: every benchmark, one after the other; each prints its figures.

python -m tests.benchmarks [--tiny]

With --tiny each has next to nothing to do: its figures mean nothing, but it is known to work.
Exit 1 if one failed. `compare_spark.py` needs an installation of its own and is left out.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
TINY = {
    "bench_client": ("64",),
    "bench_codec": ("4",),
    "bench_dataset": ("800",),
    "bench_exports": ("30000", "20", "1"),
    "bench_fleet": ("0.2",),
    "bench_hidden_limits": ("brief",),
    "bench_memory": ("2000",),
    "bench_near_duplicates": ("2000", "20"),
    "bench_partition": ("20000", "20"),
    "bench_plan": ("1000000",),
    "bench_politeness": ("2", "--images", "5"),
    "bench_slurm_demo": ("--only", "nothing"),
    "bench_tools": ("20000", "40"),
    "bench_verify": ("20",),
    "simulate_rates": ("1", "0.5"),
}


def run(name: str, *, tiny: bool) -> bool:
    """Whether it ended well; what it says goes to the terminal."""
    words = TINY[name] if tiny else ()
    variables = {"PYTHONPATH": os.pathsep.join(map(str, (CHECKOUT / "scripts", CHECKOUT)))}
    if tiny:
        variables["ROUNDS"] = "1"
    command = [sys.executable, str(HERE / f"{name}.py"), *words]
    print(f"== {' '.join([name, *words])}", flush=True)
    began = time.monotonic()
    environment = {**os.environ, **variables}
    code = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode
    print(f"   exit {code} after {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    failed = [name for name in TINY if not run(name, tiny=tiny)]
    print(f"benchmarks: {len(TINY) - len(failed)} of {len(TINY)} ended well", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
