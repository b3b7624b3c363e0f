"""What tests/gpu.sh checks and measures on an NVIDIA GPU; its comment says what that is.

    python benches/gpu.py --fewstep PROGRAM --library ONNX_RUNTIME [--provider cuda|tensorrt|cpu] [--records FOLDER] [NAME ...]

A latency is that of a whole sample, four evaluations and the updates between them, in milliseconds: the median of the
program's own, with and without captured CUDA graphs, and of as many loops of ONNX Runtime with bound buffers on the device,
the same, and of PyTorch with compiled graphs, without the updates. `--search` is cuDNN's, for ONNX Runtime here and there.
`--provider cpu` tries the script where there is no GPU, in single precision and without graphs and PyTorch.
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
    """A module whose weights and layers are in half precision, and its inputs and outputs, and what it computes of times, in f32."""

    def __init__(self, module):
        super().__init__()
        self.module = module.half()
        for layer in module.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.register_forward_pre_hook(lambda layer, args: tuple(x.to(layer.weight.dtype) for x in args))

    def forward(self, *args):
        # Times have one element an image.
        half = lambda x: x.half() if x.is_floating_point() and x.dim() > 1 else x  # noqa: E731
        return self.module(*map(half, args)).float()


def made(name, folder, half):
    """A network of the zoo: module and inputs. It is exported to `folder`."""
    import export as zoo

    torch.manual_seed(0)
    module, inputs, exporter, manifest = zoo.MODELS[name]()
    module = zoo.randomise(module).eval()
    module = Halved(module).cuda() if half else module
    args = tuple(value.cuda() if half else value for value in inputs.values())
    names = dict(input_names=list(inputs), output_names=["output"])
    # At one batch: nothing else is run here. The exporter without torch.export needs no onnxscript.
    path = folder / f"{name}.onnx"
    with torch.no_grad():
        torch.onnx.export(module, args, str(path), dynamo=False, opset_version=17, **names)
    header = f'[model]\nname = "{name}"\nnetwork = "{name}.onnx"\n'
    (folder / "fewstep.toml").write_text(header + manifest)
    return module, inputs


def digits(folder, half):
    """The committed network, and its module with other weights. It is written to `folder`, in half precision if wanted."""
    sys.path.insert(0, str(ROOT / "models" / "digits"))
    import onnx
    import train

    own = ROOT / "models" / "digits"
    network = onnx.load(own / "digits.onnx")
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        network = convert_float_to_float16(network, keep_io_types=True)
    onnx.save(network, folder / "digits.onnx")
    (folder / "fewstep.toml").write_text((own / "fewstep.toml").read_text())
    module = train.AverageVelocity().eval()
    torch.nn.init.normal_(module.out.weight)
    inputs = dict(x=torch.randn(1, 1, 28, 28), t=torch.ones(1), h=torch.ones(1), label=torch.tensor([7]))
    return Halved(module).cuda() if half else module, inputs


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


def bare(path, inputs, provider, options):
    """ONNX Runtime with everything bound where the device has it."""
    import onnxruntime

    name = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}[provider]
    session = onnxruntime.InferenceSession(str(path), providers=[(name, options)])
    if session.get_providers()[0] != name:
        raise RuntimeError(f"this ONNX Runtime has no {name}")
    device = "cpu" if provider == "cpu" else "cuda"
    binding = session.io_binding()
    for own in session.get_inputs():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(inputs[own.name]), device, 0)
        binding.bind_ortvalue_input(own.name, value)
    for own in session.get_outputs():
        # A graph writes to one place.
        shape = [size if isinstance(size, int) else 1 for size in own.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[own.type]
        binding.bind_ortvalue_output(own.name, onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, device, 0))

    def sample():
        for _ in range(STEPS):
            session.run_with_iobinding(binding)

    return dict(version=onnxruntime.__version__, sample_ms=median(sample))


def compiled(module, inputs):
    """PyTorch with compiled CUDA graphs."""
    module = torch.compile(module.cuda(), mode="reduce-overhead")
    args = [torch.from_numpy(value).cuda() for value in inputs.values()]

    def sample():
        with torch.inference_mode():
            for _ in range(STEPS):
                module(*args)

    return dict(version=torch.__version__, sample_ms=median(sample, torch.cuda.synchronize))


def attempted(what, work):
    """What `work` returns, or why it does not: one comparison that fails leaves the others."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return {"failed": f"{what}: {type(error).__name__}: {error}".splitlines()[0]}


def measured(name, args, folder):
    half = args.provider != "cpu"
    module, inputs = digits(folder, half) if name == "digits" else made(name, folder, half)
    path = folder / f"{name}.onnx"
    inputs = {key: value.numpy() for key, value in inputs.items()}
    search = {"cudnn_conv_algo_search": args.search} if args.provider == "cuda" else {}
    graphs = {"enable_cuda_graph": "1"} if args.provider == "cuda" else {}

    def run(verb, *words):
        done = subprocess.run([str(args.fewstep), verb, str(folder), *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return done.stdout

    def fewstep(verb, options, *words):
        on = ["--provider", f"ort:{args.provider}", "--ort-lib", args.library]
        on += [word for pair in options.items() for word in ("--provider-option", "=".join(pair))]
        return run(verb, *words, *on)

    def own(options):
        """Whether samples are right, and how long they take."""
        verified = json.loads(fewstep("verify", options, "-n", 2, "--json", "--min-psnr", LEAST_PSNR))
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            # What `auto` would look at has been verified.
            fewstep("bench", options, "--steps", STEPS, "--precision", "f32", "--json", out.name)
            bench = json.loads(Path(out.name).read_text())
        latency = bench["sample_ms"]["p50"]
        return dict(
            sample_ms=latency,
            images_per_s=1e3 / latency,
            psnr_db=verified["psnr_db"],
            state_on_device=bench["state_on_device"],
            bound_memory=bench["bound_memory"],
            open_ms=bench["open_ms"],
            allocations_per_step=bench["allocations_per_step"],
        )

    def guided():
        """How close samples with guidance are to the engine's, whose state is fed in every step."""
        asked = ["--steps", STEPS, "--guidance", 2, "--cond", "label=7", "--negative", "label=1", "--precision", "f32"]
        fewstep("sample", search, *asked, "-o", folder / "found.npy")
        run("sample", *asked, "-o", folder / "wanted.npy")
        found, wanted = np.load(folder / "found.npy"), np.load(folder / "wanted.npy")
        return float(10 * np.log10(np.ptp(wanted) ** 2 / max(np.mean((found - wanted) ** 2), 1e-30)))

    report = json.loads(fewstep("inspect", search, "--json"))
    record = own(search) | dict(
        precision="f16" if half else "f32",
        nodes=report["nodes"],
        nodes_on_cpu=len(report["fallback"]),
        # A node of this kind is a transfer in every step.
        copies=sum(kinds.get(kind, 0) for kinds in report["assignment"].values() for kind in ("MemcpyFromHost", "MemcpyToHost")),
        stages={stage["name"]: stage["parameters"] for stage in report["stages"]},
    )
    if name == "digits":
        record["guided_psnr_db"] = guided()
    record["onnxruntime"] = attempted("ONNX Runtime", lambda: bare(path, inputs, args.provider, search))
    if graphs:
        record["graphs"] = attempted("fewstep with graphs", lambda: own(search | graphs))
        record["graphs"]["onnxruntime"] = attempted("ONNX Runtime with graphs", lambda: bare(path, inputs, args.provider, search | graphs))
    if half:
        record["pytorch"] = attempted("PyTorch", lambda: compiled(module, inputs))
    return record


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fewstep", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--provider", default="cuda", choices=["cuda", "tensorrt", "cpu"])
    parser.add_argument("--search", default="EXHAUSTIVE", choices=["EXHAUSTIVE", "HEURISTIC", "DEFAULT"])
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
            continue
        if args.provider != "cpu" and not (own["state_on_device"] and own["copies"] == 0):
            wrong.append(f"{name}: the state does not stay on the device")
        if args.provider != "cpu" and own["bound_memory"] != "CudaPinned":
            wrong.append(f"{name}: what is fed is not in page-locked memory, but in {own['bound_memory']}")
        if own.get("guided_psnr_db", LEAST_PSNR) < LEAST_PSNR:
            wrong.append(f"{name}: samples with guidance are {own['guided_psnr_db']:.1f} dB from the engine's")
        if "failed" in own.get("graphs", {}):
            wrong.append(f"{name}, {own['graphs']['failed']}")
    print(path)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
