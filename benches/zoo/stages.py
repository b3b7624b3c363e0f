"""Count, on the raw ONNX graphs, which parameters depend on the state, and compare with what `fewstep inspect` says.

    python benches/zoo/stages.py [FOLDER ...]

Without folders: all of target/zoo. A parameter depends on what the nodes that read it depend on; what a node depends on is
what its inputs depend on, and nothing where they are shapes. Needs the program: cargo build --release.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
# A share of parameters: scalars that exporters write as nodes or initializers make the difference.
TOLERANCE = 0.002


def counted(folder):
    """Share of parameters that no node reads which depends on the state."""
    manifest = tomllib.loads((folder / "fewstep.toml").read_text())
    graph = onnx.load(folder / manifest["model"]["network"], load_external_data=False).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    state = {name for name, entry in manifest["inputs"].items() if entry["role"] == "state"}
    readers = {}
    for node in graph.node:
        depends = node.op_type not in ("Shape", "Size") and any(name in state for name in node.input)
        if depends:
            state.update(node.output)
        for name in node.input:
            if name in sizes:
                readers[name] = readers.get(name, False) or depends
    total = sum(sizes[name] for name in readers)
    return sum(sizes[name] for name, depends in readers.items() if not depends) / total


def inspected(folder):
    """The same share, as the program has it."""
    program = ROOT / "target" / "release" / "fewstep"
    report = json.loads(subprocess.check_output([program, "inspect", folder, "--json"]))
    stages = {stage["name"]: stage["parameters"] for stage in report["stages"]}
    looped = sum(count for name, count in stages.items() if name.startswith("state"))
    return 1 - looped / sum(stages.values())


def main():
    folders = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "target" / "zoo").iterdir())
    wrong = False
    for folder in folders:
        own, theirs = counted(folder), inspected(folder)
        differs = abs(own - theirs) > TOLERANCE
        wrong |= differs
        print(f"{folder.name:14} {own:7.2%} by input dependence, {theirs:7.2%} in stages{'  DIFFERS' if differs else ''}")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
