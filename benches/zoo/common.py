"""What verify.py and peers.py share: the exported models, their inputs, and running them."""

import subprocess
import tomllib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "target" / "zoo"


def add_arguments(parser):
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the folder that export.py has written")
    parser.add_argument("--fewstep", type=Path, default=ROOT / "target" / "release" / "fewstep", help="the program to test")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models [default: all that are exported]")


def folders(args):
    """The folders of the models asked for."""
    names = args.names or sorted(path.parent.name for path in args.zoo.glob("*/fewstep.toml") if not path.parent.name.startswith("."))
    missing = [name for name in names if not (args.zoo / name).is_dir()]
    if missing or not names:
        raise SystemExit(f"{args.zoo}: no {', '.join(missing) or 'models'}; run benches/zoo/export.py")
    if not args.fewstep.is_file():
        raise SystemExit(f"{args.fewstep}: no program; run cargo build --release, or give --fewstep")
    return [args.zoo / name for name in names]


def network(folder):
    """The path of a model's ONNX file."""
    return folder / tomllib.loads((folder / "fewstep.toml").read_text())["model"]["network"]


def inputs(folder):
    """The model's inputs by name, a batch of one."""
    return {path.stem: np.load(path) for path in sorted((folder / "in").glob("*.npy"))}


def command(*words):
    """A program's standard output; an error is a RuntimeError with the line that says so, or else the last."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()
        raise RuntimeError(next((line for line in lines if line.startswith("error")), lines[-1]))
    return done.stdout


def own_outputs(program, folder, out, threads, *options):
    """Outputs of one evaluation by fewstep, by name; `out` is an empty folder."""
    given = (word for path in sorted((folder / "in").glob("*.npy")) for word in ("--input", f"{path.stem}={path}"))
    command(program, "run", network(folder), *given, "-o", out, "--threads", threads, *options)
    return {path.stem: np.load(path) for path in Path(out).glob("*.npy")}


def ort_session(folder, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("batch", 1)
    return onnxruntime.InferenceSession(str(network(folder)), options, providers=["CPUExecutionProvider"])


def distance(found, wanted):
    """Relative L2 error; infinite where something is not a number."""
    found, wanted = (np.asarray(a, dtype=np.float64).ravel() for a in (found, wanted))
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    return error if np.isfinite(error) else np.inf
