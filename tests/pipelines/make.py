"""Writes tiny text-to-image pipelines as ONNX folders, with what the Python pipelines make of them.

`python tests/pipelines/make.py [-o FOLDER] [NAME ...]`: all of them without names, into target/pipelines. Packages: requirements.txt.
"""

import argparse
import warnings
from pathlib import Path

import cases
import export
import torch
from classes import PIPELINES
from record import write_cases

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=HERE.parents[1] / "target/pipelines")
    parser.add_argument("--optimum", metavar="PYTHON", help="an interpreter with requirements-optimum.txt: NAME_optimum too")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FOLDERS)}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if arguments.optimum:
        options = dict(python=arguments.optimum)
        FOLDERS.update({f"{name}_optimum": (name, export.by_optimum, options) for name in BY_OPTIMUM})
    for name in arguments.names or FOLDERS:
        make(arguments.output.resolve() / name, name)


def make(folder, name):
    pipeline, exporter, options = FOLDERS[name]
    pipe = PIPELINES[pipeline]()
    pipe.set_progress_bar_config(disable=True)
    export.fresh(folder)
    runs = cases.run(pipe, folder / "expected", pipeline)
    exporter(pipe, folder, **options)
    head = dict(name=name, exporter=exporter.__name__, precision="f16" if options.get("half") else "f32")
    write_cases(folder / "expected", head, runs)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {size / 1e6:.2f} MB, {', '.join(run['name'] for run in runs)}", flush=True)


FOLDERS = {name: (name, export.optimum, {}) for name in PIPELINES} | {
    "smallest": ("smallest", export.optimum, dict(small=True)),
    "sd15_lcm_older": ("sd15_lcm", export.older_script, {}),
    "sdxl_turbo_f16": ("sdxl_turbo", export.optimum, dict(half=True)),
    "lcm_f16": ("lcm", export.optimum, dict(half=True)),
}
BY_OPTIMUM = ["lcm", "sdxl_turbo", "sd3_turbo", "flux_schnell"]

if __name__ == "__main__":
    main()
