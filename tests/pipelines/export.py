"""Writes a pipeline's components as ONNX files, in the layout of optimum or in that of diffusers' older script.

Names, ranks and types of inputs and outputs are those of optimum-onnx 0.1 (`exporters/onnx/model_configs.py`) and of
`convert_stable_diffusion_checkpoint_to_onnx.py`. Both go through PyTorch's TorchScript exporter.
"""

import json
import shutil
import subprocess
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import onnx
import torch
from diffusers.models.transformers import transformer_flux
from onnxruntime.transformers.float16 import convert_float_to_float16
from safetensors.torch import save_file
from torch import nn

BATCH, SEQUENCE = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
PICTURE = {0: "batch_size", 2: "height", 3: "width"}
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


class Call(nn.Module):
    """A module as a function of positional tensors, given a function of it and them."""

    def __init__(self, module, function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs):
        return self.function(self.module, *inputs)


def write(path, module, function, inputs, outputs, axes, opset):
    """One ONNX file, without the exporter's notes on where nodes come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(warnings.catch_warnings())
        for owner, name, plain in EXPORTABLE:
            stack.enter_context(mock.patch.object(owner, name, plain))
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Call(module, function), tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs,
            dynamic_axes=axes, opset_version=opset, dynamo=False,
        )  # fmt: skip
    model = onnx.load(path)
    for node in model.graph.node:
        node.doc_string = ""
        for attribute in node.attribute:  # movedim(1, -1) leaves a negative axis, which ONNX Runtime refuses
            if node.op_type == "Transpose" and attribute.name == "perm":
                attribute.ints[:] = [axis % len(attribute.ints) for axis in attribute.ints]
    onnx.save(model, path)


def rms_norm(x, shape, weight=None, eps=None):
    """What the exporter has no operator for; optimum writes it out in the same way."""
    normal = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + (eps or torch.finfo(x.dtype).eps))
    return normal if weight is None else normal * weight


def squeeze(x, axis, original=torch.Tensor.squeeze):
    """PixArt squeezes an axis that is longer than one; of that the exporter makes an If that ONNX Runtime refuses."""
    return original(x, axis) if x.shape[axis] == 1 else x


def rotated(x, cosine_sine, sequence_dim=2, **_):
    """Rotary embedding by strides: the exporter takes the original's reshape for one of a fixed shape."""
    cosine, sine = (t[None, :, None] if sequence_dim == 1 else t[None, None] for t in cosine_sine)
    turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(3)
    return x * cosine + turned * sine


# What the TorchScript exporter can not write, or writes wrongly, and what is traced instead; optimum does the same.
EXPORTABLE = [
    (nn.functional, "rms_norm", rms_norm),
    (torch.Tensor, "squeeze", squeeze),
    (transformer_flux, "apply_rotary_emb", rotated),
]


def optimum(pipe, folder, half=False, small=False, opset=18):
    """The whole folder as optimum writes it.

    With `half`, inputs, weights and activations are float16. With `small`, numbers take the place of names.
    """
    export = Optimum(folder, half, small, opset)
    for encoder in ENCODERS:
        if getattr(pipe, encoder, None) is not None:
            export.encoder(encoder, getattr(pipe, encoder), hidden="XL" in type(pipe).__name__ or "3" in type(pipe).__name__)
    export.network(pipe)
    export.autoencoder(pipe.vae)
    configs(pipe, folder)


class Optimum:
    def __init__(self, folder, half, small, opset):
        self.folder, self.half, self.small, self.opset = folder, half, small, opset

    def write(self, name, module, function, inputs, outputs, axes):
        path = self.folder / name / "model.onnx"
        write(path, module, function, inputs, outputs, axes, self.opset)
        if self.half:
            # PyTorch traces no half precision on a CPU; this is how ONNX Runtime's tools make such files.
            onnx.save(halved(onnx.load(path)), path)
        if self.small:
            number_names(path)
        save = module.save_config if hasattr(module, "save_config") else module.config.save_pretrained
        save(self.folder / name)

    def encoder(self, name, module, hidden):
        kind, ids = type(module).__name__, dict(input_ids=torch.ones(2, 16, dtype=torch.int64))
        if not kind.startswith("CLIP"):
            return self.plain_encoder(name, module, ids)
        first = ["text_embeds", "last_hidden_state"] if "Projection" in kind else ["last_hidden_state", "pooler_output"]
        states = [f"hidden_states.{i}" for i in range(module.config.num_hidden_layers + 1)] if hidden else []

        def call(m, input_ids):
            result = m(input_ids=input_ids, output_hidden_states=hidden, return_dict=True)
            return [result[key] for key in first] + list(result.hidden_states if hidden else [])

        outputs = first + states
        pooled = ("pooler_output", "text_embeds")
        axes = dict(input_ids=SEQUENCE) | {o: BATCH if o in pooled else SEQUENCE for o in outputs}
        self.write(name, module, call, ids, outputs, axes)

    def plain_encoder(self, name, module, ids):
        """T5 has the ids alone; Gemma a mask too."""
        if type(module).__name__.startswith("Gemma"):
            ids["attention_mask"] = torch.ones_like(ids["input_ids"])
        call = lambda m, *given: m(**dict(zip(ids, given)), return_dict=True).last_hidden_state  # noqa: E731
        axes = {key: SEQUENCE for key in [*ids, "last_hidden_state"]}
        self.write(name, module, call, ids, ["last_hidden_state"], axes)

    def network(self, pipe):
        network = getattr(pipe, "unet", None) or pipe.transformer
        make = {
            "UNet2DConditionModel": unet_inputs,
            "SD3Transformer2DModel": sd3_inputs,
            "FluxTransformer2DModel": flux_inputs,
            "PixArtTransformer2DModel": pixart_inputs,
            "SanaTransformer2DModel": sana_inputs,
        }[type(network).__name__]
        inputs, output, axes = make(network.config)

        def call(m, *tensors):
            given = dict(zip(inputs, tensors))
            added = {key: given.pop(key) for key in ("text_embeds", "time_ids") if key in given}
            return m(**given, **(dict(added_cond_kwargs=added) if added else {}), return_dict=False)[0]

        name = "unet" if output == "out_sample" else "transformer"
        axes |= {output: axes[next(iter(inputs))]}
        self.write(name, network, call, inputs, [output], axes)

    def autoencoder(self, vae):
        side, config = 16, vae.config

        def encode(m, sample):
            result = m.encode(sample)
            return result.latent_dist.parameters if hasattr(result, "latent_dist") else result[0]

        deterministic = type(vae).__name__ in ("AutoencoderDC", "AutoencoderTiny")
        latents = "latent_sample" if deterministic else "latent_parameters"
        axes = dict(sample=PICTURE) | {latents: PICTURE}
        self.write("vae_encoder", vae, encode, dict(sample=torch.randn(2, 3, side, side)), [latents], axes)
        inputs = dict(latent_sample=torch.randn(2, config.latent_channels, side, side))
        axes = dict(latent_sample=PICTURE, sample=PICTURE)
        self.write("vae_decoder", vae, lambda m, z: m.decode(z, return_dict=False)[0], inputs, ["sample"], axes)


def unet_inputs(config):
    """The time is a scalar here, where transformers have one a sample."""
    inputs = dict(
        sample=torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
        timestep=torch.tensor(1.0),
        encoder_hidden_states=torch.randn(2, 16, config.cross_attention_dim),
    )
    axes = dict(sample=PICTURE, encoder_hidden_states=SEQUENCE)
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = torch.randn(2, config.time_cond_proj_dim)
        axes["timestep_cond"] = BATCH
    if config.addition_embed_type == "text_time":
        ids = 6 * config.addition_time_embed_dim
        inputs["text_embeds"] = torch.randn(2, config.projection_class_embeddings_input_dim - ids)
        inputs["time_ids"] = torch.randn(2, 6)
        axes |= dict(text_embeds=BATCH, time_ids=BATCH)
    return inputs, "out_sample", axes


def sd3_inputs(config):
    inputs = dict(
        hidden_states=torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
        encoder_hidden_states=torch.randn(2, 16, config.joint_attention_dim),
        pooled_projections=torch.randn(2, config.pooled_projection_dim),
        timestep=torch.tensor([1.0]),
    )
    axes = dict(hidden_states=PICTURE, encoder_hidden_states=SEQUENCE, pooled_projections=BATCH, timestep={0: "step"})
    return inputs, "out_hidden_states", axes


def flux_inputs(config):
    tokens = 64
    inputs = dict(
        hidden_states=torch.randn(1, tokens, config.in_channels),
        encoder_hidden_states=torch.randn(1, 16, config.joint_attention_dim),
        pooled_projections=torch.randn(1, config.pooled_projection_dim),
        timestep=torch.tensor([1.0]),
        img_ids=torch.randn(tokens, 3),
        txt_ids=torch.randn(16, 3),
    )
    packed = {0: "batch_size", 1: "packed_height_width"}
    axes = dict(
        hidden_states=packed, encoder_hidden_states=SEQUENCE, pooled_projections=BATCH, timestep={0: "step"},
        img_ids={0: "packed_height_width"}, txt_ids={0: "sequence_length"},
    )  # fmt: skip
    return inputs, "out_hidden_states", axes


def pixart_inputs(config):
    """Optimum has no PixArt: this follows its Sana."""
    inputs = dict(
        hidden_states=torch.randn(2, config.in_channels, config.sample_size, config.sample_size),
        encoder_hidden_states=torch.randn(2, 16, config.caption_channels),
        encoder_attention_mask=torch.ones(2, 16, dtype=torch.int64),
        timestep=torch.tensor([1.0, 1.0]),
    )
    axes = dict(hidden_states=PICTURE, encoder_hidden_states=SEQUENCE, encoder_attention_mask=SEQUENCE, timestep=BATCH)
    return inputs, "out_hidden_states", axes


def sana_inputs(config):
    """Optimum's Sana, and the guidance that Sana-Sprint takes."""
    inputs, output, axes = pixart_inputs(config)
    if config.guidance_embeds:
        inputs["guidance"] = torch.tensor([1.0, 1.0])
        axes["guidance"] = BATCH
    return inputs, output, axes


def halved(model):
    """A model in half precision but for the sines of its time, as in diffusers: half has no phase at t = 999."""
    sines = [node.name for node in model.graph.node if "time_proj" in node.name]
    model = convert_float_to_float16(model, node_block_list=sines)
    # The converter rounds what one of these nodes hands to another, twice if two read it.
    nodes = {tuple(node.output): node for node in model.graph.node}
    for node in nodes.values():
        for i, name in enumerate(node.input):
            single = name.removesuffix("_cast_to_fp32") + "_cast_to_fp16"  # its name for a result before it is rounded
            if node.name in sines and name.endswith("_cast_to_fp32") and (single,) in nodes:
                node.input[i] = single
    del model.graph.node[:]
    model.graph.node.extend(nodes.values())
    return model


def number_names(path):
    """Numbers for the names of nodes and values, which are most of a small file."""
    model = onnx.load(path)
    graph = model.graph
    short = {value.name: value.name for value in [*graph.input, *graph.output]} | {"": ""}
    for tensor in graph.initializer:
        tensor.name = short.setdefault(tensor.name, str(len(short)))
    for node in graph.node:
        node.name = ""
        node.input[:] = [short.setdefault(name, str(len(short))) for name in node.input]
        node.output[:] = [short.setdefault(name, str(len(short))) for name in node.output]
    onnx.save(model, path)


def older_script(pipe, folder, opset=14):
    """Stable Diffusion as convert_stable_diffusion_checkpoint_to_onnx.py writes it."""
    size, width = pipe.unet.config.sample_size, pipe.unet.config.cross_attention_dim
    picture, text = {0: "batch", 1: "channels", 2: "height", 3: "width"}, {0: "batch", 1: "sequence"}

    def component(name, module, function, inputs, outputs, axes):
        write(folder / name / "model.onnx", module, function, inputs, outputs, axes, opset)

    ids = dict(input_ids=torch.ones(1, 77, dtype=torch.int32))
    encode = lambda m, ids: tuple(m(ids, return_dict=False)[:2])  # noqa: E731
    component("text_encoder", pipe.text_encoder, encode, ids, ["last_hidden_state", "pooler_output"], dict(input_ids=text))
    inputs = dict(
        sample=torch.randn(2, 4, size, size),
        timestep=torch.LongTensor([0, 1]),
        encoder_hidden_states=torch.randn(2, 77, width),
    )
    axes = dict(sample=picture, timestep={0: "batch"}, encoder_hidden_states=text)
    component("unet", pipe.unet, lambda m, *given: m(*given, return_dict=False)[0], inputs, ["out_sample"], axes)
    path = folder / "unet/model.onnx"
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="weights.pb", convert_attribute=False)
    # The script draws from the distribution within the graph.
    sample = dict(sample=torch.randn(1, 3, 2 * size, 2 * size))
    component("vae_encoder", pipe.vae, lambda m, x: m.encode(x)[0].sample(), sample, ["latent_sample"], dict(sample=picture))
    latents = dict(latent_sample=torch.randn(1, 4, size, size))
    decode = lambda m, z: m.decode(z, return_dict=False)[0]  # noqa: E731
    component("vae_decoder", pipe.vae, decode, latents, ["sample"], dict(latent_sample=picture))
    names = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
    configs(pipe, folder, components={name: ["diffusers", "OnnxRuntimeModel"] for name in names})
    older_tokenizer(pipe.tokenizer, folder / "tokenizer")


def configs(pipe, folder, components=None):
    """model_index.json, the scheduler's file and the tokenizers'."""
    index = {"_class_name": type(pipe).__name__, "_diffusers_version": "0.42.1"}
    for name in pipe.config:
        value = pipe.config[name]
        part = getattr(pipe, name, None)
        if isinstance(value, (list, tuple)) and part is not None:
            index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
        elif isinstance(value, (list, tuple)):
            index[name] = [None, None]
        elif not name.startswith("_"):
            index[name] = value
        if hasattr(part, "save_pretrained") and ("tokenizer" in name or name == "scheduler"):
            part.save_pretrained(folder / name)
    if components:
        index = {key: value for key, value in index.items() if key != "vae"} | components
        index["_class_name"] = "OnnxStableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def older_tokenizer(tokenizer, folder):
    """CLIP's tokenizer as transformers 4 kept it: no tokenizer.json, but its vocabulary and merges."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer.backend_tokenizer.model.save(str(folder))
    specials = {key: str(getattr(tokenizer, key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    more = dict(add_prefix_space=False, do_lower_case=True, errors="replace", tokenizer_class="CLIPTokenizer")
    config = specials | more | dict(model_max_length=tokenizer.model_max_length)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n")


def by_optimum(pipe, folder, python):
    """The whole folder by optimum itself; `python` is an interpreter that has the packages of requirements-optimum.txt.

    Optimum wants transformers 4, so the weights and tokenizers are given to it as that version kept them.
    """
    with tempfile.TemporaryDirectory() as saved:
        saved = Path(saved)
        pipe.save_pretrained(saved)
        for name in (name for name in pipe.config if name.startswith("tokenizer")):
            if type(getattr(pipe, name)).__name__ == "CLIPTokenizer":
                older_tokenizer(getattr(pipe, name), saved / name)
        for file in [saved / "model_index.json", *saved.glob("tokenizer*/tokenizer_config.json")]:
            kept = json.loads(file.read_text().replace('"T5Tokenizer"', '"T5TokenizerFast"'))
            kept.pop("extra_special_tokens", None)
            file.write_text(json.dumps(kept))
        for encoder in (e for e in ENCODERS if type(getattr(pipe, e, None)).__name__ == "CLIPTextModel"):
            weights = {f"text_model.{key}": tensor for key, tensor in getattr(pipe, encoder).state_dict().items()}
            save_file(weights, saved / encoder / "model.safetensors", metadata={"format": "pt"})
        call = "import sys; from optimum.exporters.onnx import main_export as export; "
        call += "export(sys.argv[1], output=sys.argv[2], library_name='diffusers', task='text-to-image', opset=18, do_validation=False)"
        subprocess.run([python, "-c", call, saved, folder], check=True, stderr=subprocess.DEVNULL)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
