"""What tests/gpu.sh checks and measures on an NVIDIA GPU; its comment says what that is.

    python benches/gpu.py --fewstep PROGRAM --library ONNX_RUNTIME [--provider cuda|tensorrt|cpu] [--records FOLDER] [NAME ...]

A latency is that of a whole sample, four evaluations and the updates between them, in milliseconds: the median of the
program's own, and of as many loops of ONNX Runtime with bound buffers on the device, and of PyTorch, without the updates.
`--provider cpu` tries the script where there is no GPU, in single precision and without PyTorch.
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches" / "zoo"))
STEPS, WARM_UP, LEAST, SECONDS = 4, 5, 10, 3.0
# Half precision against the engine in f32.
LEAST_PSNR = 40


class Halved(torch.nn.Module):
    """A module in half precision, whose times stay in f32."""

    def __init__(self, module):
        super().__init__()
        self.module = module.half()

    def forward(self, *args):
        half = lambda x: x.half() if x.is_floating_point() else x  # noqa: E731
        return self.module(*map(half, args)).float()


def made(name, folder, half):
    """A network of the zoo: module and inputs. It is exported to `folder`."""
    import export as zoo

    torch.manual_seed(0)
    module, inputs, exporter, manifest = zoo.MODELS[name]()
    module = zoo.randomise(module).eval()
    module = Halved(module) if half else module
    args = tuple(inputs.values())
    names = dict(input_names=list(inputs), output_names=["output"])
    # At one batch: nothing else is run here. The exporter without torch.export needs no GPU and no onnxscript.
    path = folder / f"{name}.onnx"
    with torch.no_grad():
        torch.onnx.export(module, args, str(path), dynamo=False, opset_version=17, **names)
    header = f'[model]\nname = "{name}"\nnetwork = "{name}.onnx"\n'
    (folder / "fewstep.toml").write_text(header + manifest)
    return module, inputs


def median(run, synchronize=lambda: None):
    """Milliseconds of `run`."""
    for _ in range(WARM_UP):
        run()
    times, begin = [], time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        run()
        synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def bare(path, inputs, provider):
    """ONNX Runtime with everything bound where the device has it."""
    import onnxruntime

    name = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}[provider]
    session = onnxruntime.InferenceSession(str(path), providers=[name])
    if session.get_providers()[0] != name:
        raise RuntimeError(f"this ONNX Runtime has no {name}")
    device = "cpu" if provider == "cpu" else "cuda"
    binding = session.io_binding()
    for own in session.get_inputs():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(inputs[own.name]), device, 0)
        binding.bind_ortvalue_input(own.name, value)
    for own in session.get_outputs():
        binding.bind_output(own.name, device)

    def sample():
        for _ in range(STEPS):
            session.run_with_iobinding(binding)

    return onnxruntime.__version__, median(sample)


def compiled(module, inputs):
    """PyTorch with compiled CUDA graphs."""
    module = torch.compile(module.cuda(), mode="reduce-overhead")
    args = [torch.from_numpy(value).cuda() for value in inputs.values()]

    def sample():
        with torch.inference_mode():
            for _ in range(STEPS):
                module(*args)

    return median(sample, torch.cuda.synchronize)


def attempted(what, work):
    """What `work` returns, or why it does not: one comparison that fails leaves the others."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return {"failed": f"{what}: {type(error).__name__}: {error}".splitlines()[0]}


def measured(name, args, folder):
    half = args.provider != "cpu"
    if name == "digits":
        folder, path, module = ROOT / "models" / "digits", ROOT / "models" / "digits" / "digits.onnx", None
        inputs = dict(x=torch.randn(1, 1, 28, 28), t=torch.ones(1), h=torch.ones(1), label=torch.tensor([7]))
    else:
        module, inputs = made(name, folder, half)
        path = folder / f"{name}.onnx"
    inputs = {key: value.numpy() for key, value in inputs.items()}
    on = ["--provider", f"ort:{args.provider}", "--ort-lib", str(args.library)]

    def fewstep(*words):
        done = subprocess.run([str(args.fewstep), *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return done.stdout

    report = json.loads(fewstep("inspect", folder, "--json", *on))
    verified = json.loads(fewstep("verify", folder, "-n", 2, "--json", "--min-psnr", LEAST_PSNR, *on))
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        fewstep("bench", folder, "--steps", STEPS, "--json", out.name, *on)
        bench = json.loads(Path(out.name).read_text())
    latency = bench["sample_ms"]["p50"]
    record = dict(
        precision="f16" if half and name != "digits" else "f32",
        sample_ms=latency,
        images_per_s=1e3 / latency,
        psnr_db=verified["psnr_db"],
        state_on_device=bench["state_on_device"],
        nodes=report["nodes"],
        nodes_on_cpu=len(report["fallback"]),
        # A node of this kind is a transfer in every step.
        copies=sum(kinds.get(kind, 0) for kinds in report["assignment"].values() for kind in ("MemcpyFromHost", "MemcpyToHost")),
        stages={stage["name"]: stage["parameters"] for stage in report["stages"]},
        open_ms=bench["open_ms"],
        allocations_per_step=bench["allocations_per_step"],
    )
    found = attempted("ONNX Runtime", lambda: bare(path, inputs, args.provider))
    record["onnxruntime"] = found if isinstance(found, dict) else dict(version=found[0], sample_ms=found[1], ratio=found[1] / latency)
    if half and module is not None:
        found = attempted("PyTorch", lambda: compiled(module, inputs))
        record["pytorch"] = found if isinstance(found, dict) else dict(version=torch.__version__, sample_ms=found, ratio=found / latency)
    return record


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fewstep", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--provider", default="cuda", choices=["cuda", "tensorrt", "cpu"])
    parser.add_argument("--records", type=Path, default=ROOT / "benches" / "records")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    args.fewstep = args.fewstep.resolve()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    record = dict(date=str(date.today()), device=gpu, provider=args.provider, steps=STEPS, models={})
    args.records.mkdir(parents=True, exist_ok=True)
    path = args.records / f"{record['date']}-{re.sub(r'[^A-Za-z0-9]+', '-', gpu).strip('-')}.json"
    wrong = []
    for name in args.names or ["digits", "dit_s2", "sd15"]:
        with tempfile.TemporaryDirectory() as folder:
            own = record["models"][name] = attempted(name, lambda: measured(name, args, Path(folder)))
        # After each, so that a machine that is taken away leaves what it has measured.
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(own), flush=True)
        if "failed" in own:
            # The U-Net comes out of diffusers.
            wrong += [] if "No module named 'diffusers'" in own["failed"] else [own["failed"]]
        elif args.provider != "cpu" and not (own["state_on_device"] and own["copies"] == 0):
            wrong.append(f"{name}: the state does not stay on the device")
    print(path)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
