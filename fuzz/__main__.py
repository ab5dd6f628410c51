"""Search for programs whose results differ from local ROOT's; print each, made small, as a script."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from fuzz.programs import script
from fuzz.search import Finding, Summary, search
from fuzz.workers import Worker, data_folder


def main() -> int:
    """Search as the command line says; return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where hypothesis begins")
    parser.add_argument("--programs", type=int, default=10**6, help="how many at most")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long at most")
    parser.add_argument("--output", type=Path, help="file that findings are added to")
    options = parser.parse_args()
    # ROOT does not optimise what it compiles: most of the time is Cling's.
    os.environ.setdefault("EXTRA_CLING_ARGS", "-O0")

    def tell(finding: Finding) -> None:
        text = script(finding.program, f"{finding.outcome.status}: {finding.outcome.what}")
        print(f"\n{text}\n", flush=True)
        if options.output:
            with options.output.open("a") as file:
                file.write(f"\n```python\n{text}\n```\n")

    print(f"seed {options.seed}", flush=True)
    began_s = time.monotonic()
    with data_folder() as data:
        worker = Worker(data)
        try:
            summary = search(
                worker.run, seed=options.seed, n_programs=options.programs, seconds=options.seconds, tell=tell
            )
        finally:
            worker.close()
    print(told(summary, time.monotonic() - began_s))
    return 1 if summary.findings else 0


def told(summary: Summary, took_s: float) -> str:
    """Say what a search did."""
    counts = [f"{number:7} {status}" for status, number in sorted(summary.counts.items())]
    counts += [f"{number:7} refused: {reason}" for reason, number in sorted(summary.refusals.items())]
    return "\n".join(
        [f"{summary.programs} programs in {took_s:.0f} s, {len(summary.findings)} findings", *counts]
    )


if __name__ == "__main__":
    raise SystemExit(main())
