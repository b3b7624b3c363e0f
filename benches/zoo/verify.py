"""Compare fewstep with ONNX Runtime on the model zoo.

    python benches/zoo/verify.py [--zoo target/zoo] [--fewstep target/release/fewstep] [NAME ...]

For each model: relative L2 error of every output, in f32 and in f16, times of import and of all that follows until the plan is ready, whether
`fewstep sample` works with its manifest, and the operators without a native kernel. Fails above the bound.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import add_arguments, command, distance, folders, inputs, ort_session, own_outputs

BOUNDS = {"f32": 1e-5, "f16": 5e-3}


def verify(program, folder):
    """A row of the table, and whether all is well."""
    session = ort_session(folder, threads=2)
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, inputs(folder))))
    with tempfile.TemporaryDirectory() as out:
        errors = {}
        for precision in BOUNDS:
            found = own_outputs(program, folder, out, 2, "--precision", precision)
            errors[precision] = max(distance(found[name], wanted[name]) for name in names)
        command(program, "sample", folder, "--steps", 1, "--threads", 2, "-o", Path(out) / "sample.npy")
    report = json.loads(command(program, "inspect", folder, "--json"))
    host = [f"{operator['operator']} ({operator['node']})" for operator in report["host_operators"]]
    row = [*(f"{error:.1e}" for error in errors.values()), f"{report['import_ms']:.0f}", f"{report['plan_ms']:.0f}", str(report["instructions"]), ", ".join(host) or "none"]
    return row, all(errors[precision] <= bound for precision, bound in BOUNDS.items()) and not host


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args()
    print("| model | f32 error | f16 error | import, ms | plan, ms | instructions | host operators |\n|---|---|---|---|---|---|---|")
    failed = []
    for folder in folders(args):
        try:
            row, well = verify(args.fewstep, folder)
        except RuntimeError as error:
            row, well = [str(error), "", "", "", "", ""], False
        failed += [] if well else [folder.name]
        print(f"| {folder.name} | {' | '.join(row)} |", flush=True)
    if failed:
        sys.exit(f"above {BOUNDS}, with host operators, or failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
