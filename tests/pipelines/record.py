"""Runs a pipeline in PyTorch, on the CPU in f32, and keeps what passes between its components."""

import inspect
import json
from contextlib import ExitStack
from unittest import mock

import numpy as np
import torch

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def record(pipe, folder, name, **arguments):
    """One run: the .npy files of folder/NAME, and the entry of case.json that lists them.

    `arguments` are the pipeline's, with `seed` instead of a generator, and images as float32 arrays [h, w, 3] in [0, 1].
    A list of seeds gives each image its own generator.
    """
    run = Run()
    call = {k: v for k, v in arguments.items() if k != "seed"}
    seeds = arguments["seed"]
    generators = [torch.Generator().manual_seed(s) for s in (seeds if isinstance(seeds, list) else [seeds])]
    for key in ("image", "mask_image"):
        if key in call:
            run.arrays[key] = call[key]
            call[key] = torch.from_numpy(call[key]).permute(2, 0, 1)[None]
    with ExitStack() as stack, torch.no_grad():
        run.watch(pipe, stack)
        image = pipe(
            **call,
            generator=generators if isinstance(seeds, list) else generators[0],
            output_type="np",
            callback_on_step_end=run.step,
        ).images
    run.arrays["output"] = image.astype(np.float32)
    return run.write(folder, name, type(pipe).__name__, arguments)


class Run:
    """What one run has passed, by name."""

    def __init__(self):
        self.arrays, self.timesteps = {}, []

    def watch(self, pipe, stack):
        for encoder in ENCODERS:
            module = getattr(pipe, encoder, None)
            if module is not None:
                hook = module.register_forward_hook(self.encoded(encoder), with_kwargs=True)
                stack.callback(hook.remove)
        network = getattr(pipe, "unet", None) or pipe.transformer
        hook = network.register_forward_hook(self.evaluated, with_kwargs=True)
        stack.callback(hook.remove)
        stack.enter_context(mock.patch.object(pipe, "prepare_latents", self.noted(pipe.prepare_latents, "initial_latents")))
        stack.enter_context(mock.patch.object(pipe.vae, "decode", self.decoded(pipe.vae.decode)))

    def encoded(self, encoder):
        """The ids of each call of a text encoder: the prompt's, then the negative prompt's."""

        def hook(module, args, kwargs, output):
            ids = args[0] if args else kwargs["input_ids"]
            number = sum(key.startswith(f"{encoder}_ids") for key in self.arrays)
            self.keep(f"{encoder}_ids_{number}", ids)
            self.keep(f"{encoder}_output_{number}", output[0])
            if kwargs.get("output_hidden_states"):
                self.keep(f"{encoder}_penultimate_{number}", output.hidden_states[-2])

        return hook

    def evaluated(self, module, args, kwargs, output):
        """The inputs and the output of the first evaluation."""
        if "network_output" in self.arrays:
            return
        names = list(inspect.signature(module.forward).parameters)
        inputs = dict(zip(names, args)) | kwargs
        inputs |= inputs.pop("added_cond_kwargs", None) or {}
        for key, value in inputs.items():
            if isinstance(value, torch.Tensor):
                self.keep(f"network_{key}", value)
        self.keep("network_output", output[0] if isinstance(output, tuple) else output.sample)

    def noted(self, function, key):
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            self.keep(key, result[0] if isinstance(result, tuple) else result)
            return result

        return call

    def decoded(self, function):
        """What the VAE gets: the final latents over its scale, plus its shift."""

        def call(latents, *args, **kwargs):
            self.keep("decoder_input", latents)
            return function(latents, *args, **kwargs)

        return call

    def step(self, pipe, i, t, kwargs):
        self.keep(f"latents_{i}", kwargs["latents"])
        self.timesteps.append(float(t))
        return {}

    def keep(self, key, tensor):
        self.arrays[key] = tensor.detach().numpy().copy()

    def write(self, folder, name, cls, arguments):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for key, array in self.arrays.items():
            np.save(folder / name / f"{key}.npy", array)
        given = {k: v for k, v in arguments.items() if not isinstance(v, np.ndarray)}
        files = {key: f"{name}/{key}.npy" for key in sorted(self.arrays)}
        return dict(name=name, **{"class": cls}, arguments=given, timesteps=self.timesteps, files=files)


def write_cases(folder, head, cases):
    """expected/case.json: what the folder is, and its runs."""
    (folder / "case.json").write_text(json.dumps(head | dict(cases=cases), indent=1) + "\n")
