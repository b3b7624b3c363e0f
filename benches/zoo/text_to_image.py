"""Stable Diffusion 1.5 at its real size with random weights, as a folder, and drawn by fewstep and by ONNX Runtime in turns.

    python benches/zoo/export.py sd15
    python benches/zoo/text_to_image.py [--threads 2] [--rounds 1] [-- OPTIONS of fewstep sample]

Writes target/zoo/sd15_lcm: the zoo's U-Net beside a text encoder (CLIP ViT-L/14) and a decoder (AutoencoderKL) of the real sizes,
with LCM's scheduler and a small tokenizer. Each process draws one picture of 512x512 in 4 steps. Times are of the whole process, and for
ONNX Runtime also without loading its networks, which fewstep maps as it goes; memory is the most that a process had resident.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "target/zoo"
FOLDER = ZOO / "sd15_lcm"
PROMPT, STEPS = "a red bicycle in the snow", 4
OPSET = 17


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", help="for fewstep sample, after --")
    args = parser.parse_args()
    if args.peer:
        return peer(args.threads)
    if not FOLDER.is_dir():
        export()
    own = [ROOT / "target/release/fewstep", "sample", FOLDER, "--prompt", PROMPT, "--steps", STEPS, "--guidance", 0]
    own += ["--threads", args.threads, *args.options, "-o", ZOO / "sd15_lcm.png"]
    other = [sys.executable, __file__, "--peer", "--threads", args.threads]
    print("the first picture compiles what is not in the cache", flush=True)
    print(f"first        {measured(own)[0]:7.1f} s", flush=True)
    rows = {"fewstep": own, "ONNX Runtime": other}
    found = {name: [] for name in rows}
    for _ in range(args.rounds):
        for name, command in rows.items():
            found[name].append(measured(command))
    for name, runs in found.items():
        seconds, memory, drawing = (statistics.median(run[i] for run in runs) for i in (0, 1, 2))
        print(f"{name:12} {seconds:7.1f} s, {drawing:7.1f} s of them with networks loaded, {memory / 1e6:9.0f} MB resident at most")


def measured(command):
    """Seconds and most resident bytes of a process, and the seconds that it says drawing took."""
    begin = perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} has failed")
    drawing = re.search(r"([\d.]+) (m?s) in all", said)
    drawing = float(drawing[1]) * (1e-3 if drawing[2] == "ms" else 1)
    return perf_counter() - begin, usage.ru_maxrss * 1024, drawing


def peer(threads):
    """The same picture by ONNX Runtime on a CPU, one component after the other, as optimum's pipeline evaluates them."""
    import numpy as np
    import onnxruntime
    from diffusers import LCMScheduler
    from transformers import CLIPTokenizer

    def session(name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        return onnxruntime.InferenceSession(FOLDER / name / "model.onnx", options, providers=["CPUExecutionProvider"])

    import torch

    encoder, unet, decoder = map(session, ("text_encoder", "unet", "vae_decoder"))
    ids = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")(PROMPT, padding="max_length", truncation=True, return_tensors="np")
    begin = perf_counter()
    states = encoder.run(["last_hidden_state"], dict(input_ids=ids.input_ids.astype(np.int64)))[0]
    scheduler = LCMScheduler.from_pretrained(FOLDER / "scheduler")
    scheduler.set_timesteps(STEPS)
    (time,) = (own.type for own in unet.get_inputs() if own.name == "timestep")
    time = np.int64 if time == "tensor(int64)" else np.float32
    generator = torch.manual_seed(0)
    latents = torch.randn(1, 4, 64, 64, generator=generator)
    for t in scheduler.timesteps:
        given = dict(sample=latents.numpy(), timestep=np.array([t], time), encoder_hidden_states=states)
        predicted = torch.from_numpy(unet.run(None, given)[0])
        latents, clean = scheduler.step(predicted, t, latents, generator=generator, return_dict=False)
    np.save(ZOO / "sd15_lcm.latents.npy", clean.numpy())
    decoder.run(None, dict(latent_sample=(clean / 0.18215).numpy()))
    print(f"{perf_counter() - begin:.2f} s in all")


# --- exporting ------------------------------------------------------------


def export():
    import torch
    from diffusers import AutoencoderKL, LCMScheduler
    from transformers import CLIPTextConfig, CLIPTextModel

    # Before this folder, which has an export.py of its own.
    sys.path.insert(0, str(ROOT / "tests/pipelines"))
    import tiny_tokenizers
    from export import write

    torch.manual_seed(0)
    unfinished = ZOO / ".sd15_lcm"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "unet").mkdir()
    os.link(ZOO / "sd15/sd15.onnx", unfinished / "unet/model.onnx")
    os.link(ZOO / "sd15/sd15.onnx.data", unfinished / "unet/sd15.onnx.data")
    unet = dict(_class_name="UNet2DConditionModel", sample_size=64, in_channels=4, out_channels=4, cross_attention_dim=768)
    (unfinished / "unet/config.json").write_text(json.dumps(unet, indent=2))

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        projection_dim=768, hidden_act="quick_gelu", bos_token_id=998, eos_token_id=999,
    )  # fmt: skip
    text = CLIPTextModel(config).eval()
    ids = torch.ones(1, 77, dtype=torch.int64)
    path, axes = unfinished / "text_encoder/model.onnx", dict(input_ids={0: "batch"})
    write(path, text, lambda m, ids: m(input_ids=ids).last_hidden_state, dict(input_ids=ids), ["last_hidden_state"], axes, OPSET)
    config.save_pretrained(unfinished / "text_encoder")
    tiny_tokenizers.clip().save_pretrained(unfinished / "tokenizer")

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    ).eval()  # fmt: skip
    latent = dict(latent_sample=torch.randn(1, 4, 64, 64))
    path, axes = unfinished / "vae_decoder/model.onnx", dict(latent_sample={0: "batch", 2: "height", 3: "width"})
    write(path, vae, lambda m, z: m.decode(z, return_dict=False)[0], latent, ["sample"], axes, OPSET)
    vae.save_config(unfinished / "vae_decoder")
    LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False).save_config(unfinished / "scheduler")
    index = dict(
        _class_name="StableDiffusionPipeline", _diffusers_version="0.42.1", scheduler=["diffusers", "LCMScheduler"],
        text_encoder=["diffusers", "OnnxRuntimeModel"], tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "OnnxRuntimeModel"], vae_decoder=["diffusers", "OnnxRuntimeModel"],
    )  # fmt: skip
    (unfinished / "model_index.json").write_text(json.dumps(index, indent=2))
    unfinished.rename(FOLDER)


if __name__ == "__main__":
    main()
