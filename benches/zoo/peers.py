"""Time one network evaluation of every model of the zoo: fewstep, and the engines that have a Python package.

    python benches/zoo/peers.py [--threads 1 2] [--rounds 5] [--zoo target/zoo] [--fewstep target/release/fewstep]
                                [--records benches/records] [NAME ...]

Each measurement is a process of its own, one at a time, so that no engine's idle threads disturb another; the engines take
turns, round after round. A time is the median over the rounds of each round's median. Outputs are compared with ONNX
Runtime's, and times of wrong results are not counted. Writes DATE-CPU.json, .md and .png to the folder of records.

Engines are left out if their package is missing. rten has none for Python (looked up November 2026): cargo builds a small
program, in benches/zoo/rten.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
import tomllib
from datetime import date
from pathlib import Path

import numpy as np
from common import ROOT, add_arguments, command, distance, folders, inputs, network, ort_session, own_outputs

SECONDS, WARM_UP, LEAST = 2.0, 3, 10
# Relative L2 error up to which a result is right, by the precision that the engine was asked for.
BOUNDS = {"f32": 1e-4, "f16": 2e-2, "bf16": 5e-2}
# How many times as fast as the fastest right peer fewstep is to be, by its precision and the number of threads.
TARGETS = {("f32", 1): 1.15, ("f32", 2): 1.15, ("f16", 1): 2.0, ("f16", 2): 2.0}


# --- one measurement, in a process of its own -----------------------------


def onnxruntime_evaluate(folder, threads, _):
    session, feeds = ort_session(folder, threads), inputs(folder)
    return lambda: session.run(None, feeds)


def openvino_evaluate(folder, threads, precision):
    import openvino

    core, feeds = openvino.Core(), inputs(folder)
    model = core.read_model(network(folder))
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(model, "CPU", settings)
    # The hint is taken as one: without fp16 arithmetic, f16 becomes bf16, which would be timed under the wrong name.
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != precision:
        raise RuntimeError(f"no {precision} on this CPU, it takes {taken}")
    request = compiled.create_infer_request()

    def evaluate():
        return request.infer(feeds, share_inputs=True, share_outputs=True).to_tuple()

    return evaluate


def tract_evaluate(folder, _threads, _precision):
    import tract

    feeds = inputs(folder)
    model = tract.onnx().load(str(network(folder)))
    names = [model.input_name(i) for i in range(model.input_count())]
    kinds = {"float32": "f32", "int64": "i64"}
    for i, name in enumerate(names):
        sizes = ",".join(str(size) for size in feeds[name].shape)
        model.set_input_fact(i, f"{sizes},{kinds[feeds[name].dtype.name]}")
    runnable = model.into_model().into_runnable()
    ordered = [feeds[name] for name in names]
    return lambda: [output.to_numpy() for output in runnable.run(ordered)]


PACKAGES = {"onnxruntime": onnxruntime_evaluate, "openvino": openvino_evaluate, "tract": tract_evaluate}
# (package, precision, thread counts or None for any)
PEERS = [
    ("onnxruntime", "f32", None),
    ("openvino", "f32", None),
    ("openvino", "f16", None),
    ("openvino", "bf16", None),
    ("tract", "f32", {1}),
    ("rten", "f32", None),
]
OWN = [("fewstep", "f32", None), ("fewstep", "f16", None)]
RTEN = ROOT / "benches" / "zoo" / "rten" / "Cargo.toml"
RTEN_BUILT = ROOT / "target" / "rten"


def measure(package, precision, threads, folder, outputs):
    """Prints a measurement as JSON and saves the outputs."""
    begin = time.perf_counter()
    evaluate = PACKAGES[package](folder, threads, precision)
    opened = time.perf_counter() - begin
    results = [evaluate() for _ in range(WARM_UP)][-1]
    np.savez(outputs, *[np.asarray(result) for result in results])
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < LEAST or time.perf_counter() < end:
        begin = time.perf_counter()
        evaluate()
        times.append(time.perf_counter() - begin)
    peak = int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    print(json.dumps({"open_ms": opened * 1e3, "step_ms": statistics.median(times) * 1e3, "rss_bytes": peak}))


# --- all of them ----------------------------------------------------------


class Case:
    """One engine on one model with some threads."""

    def __init__(self, engine, precision, threads, folder):
        self.engine, self.precision, self.threads, self.folder = engine, precision, threads, folder
        self.rounds, self.outputs, self.problem = [], None, None

    def peer_round(self):
        with tempfile.TemporaryDirectory() as work:
            saved = Path(work) / "outputs.npz"
            words = ["--measure", self.engine, self.precision, self.threads, self.folder, saved]
            printed = command(sys.executable, Path(__file__).resolve(), *words)
            with np.load(saved) as arrays:
                self.outputs = [arrays[name] for name in arrays.files]
        return json.loads(printed.splitlines()[-1])

    def rten_round(self):
        with tempfile.TemporaryDirectory() as out:
            words = [network(self.folder), self.folder / "in", out, self.threads, SECONDS, WARM_UP, LEAST]
            printed = command(RTEN_BUILT / "release" / "rten-peer", *words)
            self.outputs = [np.load(Path(out) / f"{i}.npy") for i in range(len(list(Path(out).iterdir())))]
        return json.loads(printed)

    def own_round(self, program):
        precision = ["--precision", self.precision] if self.precision != "f32" else []
        with tempfile.TemporaryDirectory() as work:
            if self.outputs is None:
                found = own_outputs(program, self.folder, Path(work) / "out", self.threads, *precision)
                self.outputs = [found[name] for name in output_names(self.folder)]
            saved = Path(work) / "bench.json"
            command(program, "bench", self.folder, "--threads", self.threads, "--json", saved, *precision)
            report = json.loads(saved.read_text())
        return {"open_ms": report["open_ms"], "step_ms": report["step_ms"]["p50"], "rss_bytes": report["rss_bytes"]}

    def measured(self, program):
        """One round's measurement."""
        if self.engine == "fewstep":
            return self.own_round(program)
        return self.rten_round() if self.engine == "rten" else self.peer_round()

    def round(self, program):
        """One round; a problem ends the case."""
        if self.problem is None:
            try:
                self.rounds.append(self.measured(program))
            except RuntimeError as error:
                self.problem = str(error)

    def result(self, reference):
        """A row of the record."""
        row = {"model": self.folder.name, "engine": self.engine, "precision": self.precision, "threads": self.threads}
        if self.outputs is not None:
            error = max(distance(found, wanted) for found, wanted in zip(self.outputs, reference))
            # JSON has no infinity.
            row["error"] = float(error) if np.isfinite(error) else None
            if error > BOUNDS[self.precision]:
                self.problem = f"wrong, relative error {error:.1e}"
        if self.problem is not None:
            return row | {"problem": self.problem}
        return row | {key: statistics.median(found[key] for found in self.rounds) for key in self.rounds[0]}


def output_names(folder):
    """In the network's order, which is that of every peer's outputs."""
    import onnx

    return [output.name for output in onnx.load(network(folder), load_external_data=False).graph.output]


@functools.cache
def rten_built():
    """Whether the program that runs rten is there, or can be built."""
    try:
        command("cargo", "build", "--release", "--locked", "--manifest-path", RTEN, "--target-dir", RTEN_BUILT)
        return True
    except (OSError, RuntimeError) as error:
        print(f"rten is left out: {error}", file=sys.stderr)
        return False


def installed(engine):
    return rten_built() if engine == "rten" else importlib.util.find_spec(engine) is not None


def bench(folder, args):
    """All rows of a model."""
    engines = [*OWN, *(peer for peer in PEERS if installed(peer[0]))]
    rows = []
    for threads in args.threads:
        cases = [Case(engine, precision, threads, folder) for engine, precision, only in engines if not only or threads in only]
        for _ in range(args.rounds):
            for case in cases:
                case.round(args.fewstep)
        reference = next(case.outputs for case in cases if case.engine == "onnxruntime")
        rows += [case.result(reference) for case in cases]
    return rows


def machine():
    """Facts about this machine; those that the system does not tell are left out."""
    info = Path("/proc/cpuinfo").read_text()
    field = lambda key: next(iter(re.findall(rf"^{key}\s*:\s*(.+)$", info, re.M)), None)  # noqa: E731
    wanted = r"avx2|f16c|fma|avx512f|avx512_vnni|avx512_bf16|avx512_fp16|amx_\w+|asimd|asimdhp|asimddp|bf16|i8mm|sve2?"
    features = [flag for flag in (field("flags") or field("Features") or "").split() if re.fullmatch(wanted, flag)]
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    facts = {
        "cpu": field("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": [field("cpu family"), field("model"), field("stepping")],
        "cores": os.cpu_count(),
        "features": features,
        "cache": field("cache size"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": governor.read_text().strip() if governor.exists() else None,
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
    }
    return {key: value for key, value in facts.items() if value not in (None, [None] * 3)}


def versions(program):
    found = {package: importlib.metadata.version(package) for package in PACKAGES if installed(package)}
    if installed("rten"):
        locked = tomllib.loads(RTEN.with_name("Cargo.lock").read_text())["package"]
        found["rten"] = next(package["version"] for package in locked if package["name"] == "rten")
    commit = command("git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude", "*").strip()
    return {"fewstep": f"{command(program, '--version').split()[-1]} ({commit})", **found}


# --- showing them ---------------------------------------------------------


def title(row):
    return row["engine"] if row["precision"] == "f32" else f"{row['engine']} {row['precision']}"


def columns(rows):
    return list(dict.fromkeys(title(row) for row in rows))


def cell(row):
    if row is None:
        return ""
    if "problem" not in row:
        return f"{row['step_ms']:.3g}"
    return "wrong" if row["problem"].startswith("wrong") else "none"


def compared(found, precision, threads):
    """How many times as fast as the fastest peer fewstep is whose result is as right, who that is, and what is asked for."""
    own = found.get("fewstep" if precision == "f32" else f"fewstep {precision}")
    peers = [row for row in found.values() if row["engine"] != "fewstep" and "problem" not in row and row["error"] <= BOUNDS[precision]]
    if own is None or "problem" in own or not peers:
        return ""
    best = min(peers, key=lambda row: row["step_ms"])
    target = TARGETS.get((precision, threads))
    asked = f" (of {target:g})" if target else ""
    return f"{best['step_ms'] / own['step_ms']:.2f}{asked}, {title(best)}"


def table(record):
    """Markdown: a line for each model and number of threads."""
    rows, names = record["results"], columns(record["results"])
    precisions = [precision for _, precision, _ in OWN]
    ratios = [f"{precision} against the fastest peer" for precision in precisions]
    engines = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    facts = record["machine"]
    lines = [
        f"Median milliseconds an evaluation, batch 1, {record['rounds']} rounds, {record['date']}.",
        f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts.get('features', []))}. {engines}.",
        "",
        f"| model | threads | {' | '.join(names + ratios)} |",
        "|---|---|" + "---|" * len(names + ratios),
    ]
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in rows):
        found = {title(row): row for row in rows if (row["model"], row["threads"]) == (model, threads)}
        cells = [cell(found.get(name)) for name in names] + [compared(found, precision, threads) for precision in precisions]
        lines.append(f"| {model} | {threads} | {' | '.join(cells)} |")
    problems = dict.fromkeys(f"{row['model']}, {title(row)}: {row['problem']}" for row in rows if "problem" in row)
    return "\n".join([*lines, "", *(f"- {problem}" for problem in problems)]).rstrip() + "\n"


def plot(record, path):
    """Bars of speed relative to ONNX Runtime, one panel for each number of threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in record["results"] if "problem" not in row]
    names, models = columns(rows), list(dict.fromkeys(row["model"] for row in rows))
    counts = sorted({row["threads"] for row in rows})
    times = {(row["model"], row["threads"], title(row)): row["step_ms"] for row in rows}
    figure, panels = pyplot.subplots(len(counts), 1, figsize=(10, 3.2 * len(counts)), squeeze=False, sharex=True)
    width = 0.8 / len(names)
    for threads, panel in zip(counts, panels[:, 0]):
        for place, name in enumerate(names):
            speeds = [times.get((m, threads, "onnxruntime"), np.nan) / times.get((m, threads, name), np.nan) for m in models]
            panel.bar(np.arange(len(models)) + (place + 0.5) * width - 0.4, speeds, width, label=name)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_ylabel(f"speed, ONNX Runtime = 1\n{threads} thread{'s' * (threads > 1)}")
        panel.set_xticks(np.arange(len(models)), models)
    panels[0, 0].legend(ncols=len(names), fontsize=8)
    panels[0, 0].set_title(f"{record['machine']['cpu']}, batch 1, {record['date']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=Path, default=ROOT / "benches" / "records")
    args = parser.parse_args()
    record = {"date": date.today().isoformat(), "machine": machine(), "versions": versions(args.fewstep), "rounds": args.rounds, "results": []}
    for folder in folders(args):
        record["results"] += bench(folder, args)
        print(f"{folder.name}: done", flush=True)
    cpu = re.sub(r"[^a-z0-9]+", "-", record["machine"]["cpu"].lower()).strip("-")
    args.records.mkdir(parents=True, exist_ok=True)
    stem = args.records / f"{record['date']}-{cpu}"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_suffix(".md").write_text(table(record))
    plot(record, stem.with_suffix(".png"))
    print(table(record))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        package, precision, threads, folder, outputs = sys.argv[2:]
        try:
            measure(package, precision, int(threads), Path(folder), outputs)
        except Exception as error:  # each engine has its own; the caller wants one line
            sys.exit(str(error).splitlines()[0] or type(error).__name__)
    else:
        main()
