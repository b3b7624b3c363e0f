#!/usr/bin/env python3
"""Writes the budgets at the end of targets/*.toml: what a device should keep to, estimated from its `[machine]`.

    python3 targets/budget.py             # of all files
    python3 targets/budget.py --check     # says which files have other budgets than these, and writes nothing

An estimate is the work over a part of the peak, plus the weights over the memory's speed. What the part is, and what comes
on top, was measured on the x86 computers of README.md's table, where terrain reaches 0.64 of one core's peak; see
docs/targets.md.
"""

import math
import sys
import tomllib
from pathlib import Path

EFFICIENCY = 0.35  # of all cores' peak: kernels, threads that wait, work that is no product
JITTER = 1.3  # p99 over p50, on a device that does nothing else
FAULTS = 1e9  # bytes a second that come into a new process from the system's cache of the file
OPEN = 1.2 * 168  # ms at 1 GFLOP/s: twice the 0.6 ms of terrain.fsp at 168
PROGRAM = 24e6  # bytes in memory beside arena and weights: the program and its data, 12 MB of the one measured
DIRTY = 4e6  # of that, bytes that are written, 2 MB of the one measured
MARK = "\n# Written by targets/budget.py, of the numbers above.\n"

# Floating point operations an evaluation, evaluations a sample, and bytes of the arena (the most of the instruction sets)
# and of the weights by precision: `fewstep inspect PLAN --json`, and the manifests.
MODELS = {
    "digits": dict(flop=164.9e6, steps=1, arena=1.060e6, weights=dict(f32=5.758e6, f16=4.324e6)),
    "terrain": dict(flop=17.95e9, steps=1, arena=23.71e6, weights=dict(f32=87.52e6, f16=74.84e6)),
    "policy": dict(flop=602.1e6, steps=4, arena=0.107e6, weights=dict(f32=259.5e6, f16=141.7e6)),
}


def budget(target, model):
    machine, half = target["machine"], target["precision"] == "f16"
    peak = machine["half_peak_gflops" if half else "peak_gflops"]
    weights = model["weights"][target["precision"]]
    evaluation = model["flop"] / (EFFICIENCY * machine["cores"] * peak) + weights / machine["read_gb_per_s"]
    sample = model["steps"] * evaluation / 1e6
    return {
        "open_ms": OPEN / machine["peak_gflops"],
        "first_sample_ms": JITTER * sample + weights / FAULTS * 1e3,
        "sample_ms": sample,
        "sample_p99_ms": JITTER * sample,
        "jitter": JITTER,
        "arena_bytes": model["arena"],
        # Only Linux tells these, and what is not told is over the budget.
        **({"rss_bytes": weights + model["arena"] + PROGRAM, "private_dirty_bytes": model["arena"] + DIRTY}
           if "linux" in target["triple"] else {}),
        "allocations_per_step": 0,
    }


def rounded(value):
    """Up, to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value else 1.0
    up = math.ceil(value / unit - 1e-9) * unit
    return f"{up:.0f}" if unit >= 1 else f"{up:.{-round(math.log10(unit))}f}"


def written(text):
    target = tomllib.loads(text)
    tables = (
        f"[budget.{name}]\n" + "".join(f"{key} = {rounded(bound)}\n" for key, bound in budget(target, MODELS[name]).items())
        for name in target["models"]
    )
    return text.split(MARK)[0] + MARK + "\n".join(tables)


def main():
    stale = []
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        text = path.read_text()
        if text == written(text):
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(written(text))
    if stale and "--check" in sys.argv:
        sys.exit(f"budget: {', '.join(stale)}: the budgets are not of the machine's numbers; run targets/budget.py")


main()
