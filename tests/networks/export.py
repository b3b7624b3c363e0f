"""Write small random networks with inputs and ONNX Runtime's outputs.

For each network: NAME/NAME.onnx, NAME/in/INPUT.npy, NAME/out/OUTPUT.npy.
Run as `python tests/networks/export.py [NAME ...]`; without names, all of them.
Each golden is checked against PyTorch before it is written.
"""

import contextlib
import io
import math
import shutil
import sys
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "ops"))
from generate import session, strip  # noqa: E402

NETWORKS = {}


def network(fn):
    """Register a function returning (module, inputs, golden batch, options)."""
    NETWORKS[fn.__name__] = fn
    return fn


def randomise(module):
    """Make norms affine at random and fill what is initialised with zeros."""
    for m in module.modules():
        if isinstance(m, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)) and m.weight is not None:
            nn.init.normal_(m.weight, 1.0, 0.2)
    for name, p in module.named_parameters():
        if p.ndim <= 1 and not p.abs().max() > 0 or name.endswith("norm.bias"):
            nn.init.normal_(p, 0.0, 0.1)
        elif not p.abs().max() > 0:
            nn.init.normal_(p, 0.0, 1.0 / math.sqrt(p[0].numel()))
    return module.eval()


class Sample(nn.Module):
    """A diffusers model as a function of positional tensors to one tensor."""

    def __init__(self, model, *names):
        super().__init__()
        self.m, self.names = model, names

    def forward(self, *args):
        return self.m(**dict(zip(self.names, args)), return_dict=False)[0]


# --- the networks ---------------------------------------------------------


def condition_unet(**more):
    """A two-level text-conditioned UNet of diffusers (cross-attention, GEGLU)."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 12),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=12,
        time_embedding_dim=12,
        attention_head_dim=2,
        **more,
    )


def condition_inputs():
    """Latents, integer time steps and text states."""
    return dict(sample=torch.randn(2, 4, 8, 8), timestep=torch.tensor([999, 259]), encoder_hidden_states=torch.randn(2, 5, 12))


@network
def unet2d_condition():
    return Sample(condition_unet(), *condition_inputs()), condition_inputs(), 2, {}


@network
def unet2d_condition_dynamo():
    return Sample(condition_unet(), *condition_inputs()), condition_inputs(), 1, dict(dynamo=True)


@network
def lcm_unet():
    inputs = dict(condition_inputs(), timestep_cond=torch.randn(2, 16))
    return Sample(condition_unet(time_cond_proj_dim=16, use_linear_projection=True), *inputs), inputs, 1, {}


@network
def unet2d():
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=5,
    )
    inputs = dict(sample=torch.randn(2, 3, 8, 8), timestep=torch.tensor([40.5, 3.0]), class_labels=torch.tensor([3, 0]))
    return Sample(model, *inputs), inputs, 2, {}


@network
def dit():
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_num_groups=2,
    )
    inputs = dict(hidden_states=torch.randn(2, 4, 8, 8), timestep=torch.tensor([999, 17]), class_labels=torch.tensor([4, 9]))
    return Sample(model, *inputs), inputs, 2, {}


class SitBlock(nn.Module):
    """A transformer block modulated by the condition, with query and key norms."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.qk = nn.ModuleList(nn.LayerNorm(width // heads) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, c):
        s1, b1, g1, s2, b2, g2 = self.modulation(F.silu(c)).unsqueeze(1).chunk(6, dim=-1)
        h = self.norms[0](x) * (1 + s1) + b1
        b, n, d = h.shape
        q, k, v = self.qkv(h).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(self.qk[0](q), self.qk[1](k), v)
        x = x + g1 * self.out(h.transpose(1, 2).reshape(b, n, d))
        return x + g2 * self.mlp(self.norms[1](x) * (1 + s2) + b2)


class Sit(nn.Module):
    """A small interpolant transformer with two times (r, t) as in flow maps."""

    def __init__(self, channels=4, size=8, patch=2, width=24, heads=2, depth=2, classes=6):
        super().__init__()
        self.patch, self.grid, self.channels = patch, size // patch, channels
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, self.grid**2, width) * 0.3)
        self.times = nn.ModuleList(nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(2))
        self.label = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList(SitBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation, self.head = nn.Linear(width, 2 * width), nn.Linear(width, channels * patch**2)

    def forward(self, x, r, t, y):
        c = self.label(y) + self.times[0](waves(r, 32)) + self.times[1](waves(t - r, 32))
        h = self.embed(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            h = block(h, c)
        s, b = self.modulation(F.silu(c)).unsqueeze(1).chunk(2, dim=-1)
        h = self.head(self.norm(h) * (1 + s) + b)
        h = h.reshape(h.shape[0], self.grid, self.grid, self.patch, self.patch, self.channels)
        size = self.grid * self.patch
        return torch.einsum("nhwpqc->nchpwq", h).reshape(h.shape[0], self.channels, size, size)


def waves(t, size, scale=1000.0):
    """Sines and cosines of a time."""
    f = torch.exp(-math.log(1e4) * torch.arange(size // 2, dtype=torch.float32) / (size // 2)).to(t.dtype)
    a = scale * t[:, None] * f
    return torch.cat([a.cos(), a.sin()], dim=-1)


def sit_inputs():
    """A noise latent, the two ends of a step and the class."""
    return dict(x=torch.randn(2, 4, 8, 8), r=torch.tensor([0.0, 0.25]), t=torch.tensor([1.0, 0.75]), y=torch.tensor([2, 5]))


@network
def sit():
    return Sit(), sit_inputs(), 1, {}


@network
def sit_dynamo():
    return Sit(), sit_inputs(), 2, dict(dynamo=True)


@network
def sit_opset23():
    return Sit(width=16, depth=1), sit_inputs(), 1, dict(dynamo=True, opset=23)


class ConvMish(nn.Sequential):
    """Conv1d, GroupNorm, Mish."""

    def __init__(self, a, b, kernel=5, groups=4):
        super().__init__(nn.Conv1d(a, b, kernel, padding=kernel // 2), nn.GroupNorm(groups, b), nn.Mish())


class FilmBlock(nn.Module):
    """Two convolutions; the condition scales and shifts between them."""

    def __init__(self, a, b, condition):
        super().__init__()
        self.first, self.second = ConvMish(a, b), ConvMish(b, b)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * b))
        self.skip = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x, c):
        scale, shift = self.film(c).unsqueeze(-1).chunk(2, dim=1)
        return self.second(self.first(x) * (1 + scale) + shift) + self.skip(x)


class PolicyUnet(nn.Module):
    """A U-Net over an action sequence, conditioned on time and observations."""

    def __init__(self, actions=3, observation=10, widths=(8, 12, 16), step=16):
        super().__init__()
        self.step = step
        self.time = nn.Sequential(nn.Linear(step, 2 * step), nn.Mish(), nn.Linear(2 * step, step))
        cond, top = step + observation, widths[-1]
        ends = list(zip((actions, *widths[:-1]), widths))
        self.down = nn.ModuleList(
            nn.ModuleList([FilmBlock(a, b, cond), FilmBlock(b, b, cond), nn.Conv1d(b, b, 3, 2, 1) if b != top else nn.Identity()]) for a, b in ends
        )
        self.middle = nn.ModuleList([FilmBlock(top, top, cond), FilmBlock(top, top, cond)])
        self.up = nn.ModuleList(
            nn.ModuleList([FilmBlock(2 * b, a, cond), FilmBlock(a, a, cond), nn.ConvTranspose1d(a, a, 4, 2, 1)]) for a, b in reversed(ends[1:])
        )
        self.head = nn.Sequential(ConvMish(widths[0], widths[0]), nn.Conv1d(widths[0], actions, 1))

    def forward(self, sample, timestep, global_cond):
        c = torch.cat([self.time(waves(timestep.float(), self.step, 1.0)), global_cond], dim=-1)
        x, skips = sample.transpose(1, 2), []
        for first, second, down in self.down:
            x = second(first(x, c), c)
            skips.append(x)
            x = down(x)
        for block in self.middle:
            x = block(x, c)
        for first, second, up in self.up:
            x = up(second(first(torch.cat([x, skips.pop()], dim=1), c), c))
        return self.head(x).transpose(1, 2)


def policy_inputs():
    """A noisy action sequence, its time step and the observation."""
    return dict(sample=torch.randn(2, 16, 3), timestep=torch.tensor([99, 7]), global_cond=torch.randn(2, 10))


@network
def policy_unet1d():
    return PolicyUnet(), policy_inputs(), 2, {}


@network
def policy_unet1d_dynamo():
    return PolicyUnet(), policy_inputs(), 1, dict(dynamo=True)


class MlpHead(nn.Module):
    """A residual MLP from x at time s to time t, modulated by a condition."""

    def __init__(self, size=6, condition=10, width=24, depth=2):
        super().__init__()
        self.enter, self.condition = nn.Linear(size, width), nn.Linear(condition, width)
        self.times = nn.ModuleList(nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(2))
        self.norms = nn.ModuleList([nn.RMSNorm(width, eps=1e-6) if i % 2 else nn.LayerNorm(width, eps=1e-6) for i in range(depth)])
        self.modulations = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.bodies = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth))
        self.norm, self.last = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, size)

    def forward(self, x, s, t, condition):
        h = self.enter(x)
        c = F.silu(self.condition(condition) + self.times[0](waves(s, 16, 10.0)) + self.times[1](waves(t, 16, 10.0)))
        for norm, modulation, body in zip(self.norms, self.modulations, self.bodies):
            shift, scale, gate = modulation(c).chunk(3, dim=-1)
            h = h + gate * body(norm(h) * (1 + scale) + shift)
        shift, scale = self.last(c).chunk(2, dim=-1)
        return self.head(self.norm(h) * (1 + scale) + shift)


def mlp_inputs():
    """A noise vector, two times and a condition."""
    return dict(x=torch.randn(2, 6), s=torch.tensor([1.0, 0.7]), t=torch.tensor([0.0, 0.2]), condition=torch.randn(2, 10))


@network
def mlp():
    return MlpHead(), mlp_inputs(), 1, dict(dynamo=True)


@network
def mlp_fp16():
    half = {k: v.half() for k, v in mlp_inputs().items()}
    return MlpHead(), half, 2, dict(dynamo=True, half=True, tolerance=2e-2)


@network
def external():
    return MlpHead(width=16), mlp_inputs(), 2, dict(dynamo=True, external=True)


class Decode(nn.Module):
    """The decoder of a diffusers autoencoder."""

    def __init__(self, model):
        super().__init__()
        model.encoder = None
        self.model = model

    def forward(self, latent):
        return self.model.decode(latent, return_dict=False)[0]


@network
def vae_decoder():
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    return Decode(model), dict(latent=torch.randn(2, 4, 6, 6)), 1, {}


@network
def tiny_decoder():
    from diffusers import AutoencoderTiny

    widths = dict(encoder_block_out_channels=(12, 12), decoder_block_out_channels=(12, 12))
    model = AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 2))
    return Decode(model), dict(latent=torch.randn(2, 4, 6, 6)), 1, {}


# --- exporting ------------------------------------------------------------


def export(module, inputs, dynamo, opset):
    """The ModelProto, with a symbolic batch axis on every input."""
    buffer, args = io.BytesIO(), tuple(inputs.values())
    names = dict(input_names=list(inputs), output_names=["output"])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        if dynamo:
            batch = {0: torch.export.Dim("batch")}
            shapes = tuple(batch for _ in args)
            if isinstance(module, Sample):  # it takes *args
                shapes = (shapes,)
            torch.onnx.export(module, args, dynamo=True, verbose=False, dynamic_shapes=shapes, opset_version=opset, **names).save(buffer)
        else:
            axes = {n: {0: "batch"} for n in (*inputs, "output")}
            torch.onnx.export(module, args, buffer, dynamo=False, opset_version=opset or 17, dynamic_axes=axes, **names)
    model = onnx.load_from_string(buffer.getvalue())
    strip(model)
    return model


def move_out(model, folder, name):
    """Put weights in a side file, and the largest alone in a subfolder."""
    from onnx.external_data_helper import set_external_data

    side, largest = bytearray(), max(model.graph.initializer, key=lambda t: len(t.raw_data))
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        if len(data) < 64:
            continue
        tensor.raw_data = data
        if tensor is largest or tensor.name == largest.name:
            (folder / "part").mkdir()
            (folder / "part" / "largest.bin").write_bytes(data)
            set_external_data(tensor, "part/largest.bin")
        else:
            side += bytes(-len(side) % 64)
            set_external_data(tensor, f"{name}.onnx.data", offset=len(side), length=len(data))
            side += data
        tensor.ClearField("raw_data")
    (folder / f"{name}.onnx.data").write_bytes(side)


def make(name):
    """Export one network, compare with PyTorch at two batch sizes and write the folder."""
    torch.manual_seed(zlib.crc32(name.encode()))
    module, inputs, batch, options = NETWORKS[name]()
    randomise(module)
    if options.get("half"):
        module.half()
    model = export(module, inputs, options.get("dynamo", False), options.get("opset"))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("in", "out"):
        (folder / part).mkdir(parents=True)
    if options.get("external"):
        move_out(model, folder, name)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())

    sess = session(str(path))
    assert {i.name for i in sess.get_inputs()} == set(inputs), "an input was dropped"
    for size in (3 - batch, batch):
        golden = {k: v[:size] for k, v in inputs.items()}
        with torch.no_grad():
            expected = module(*golden.values()).float().numpy()
        (result,) = sess.run(None, {k: v.numpy() for k, v in golden.items()})
        error = np.abs(result.astype(np.float32) - expected).max()
        assert error <= options.get("tolerance", 2e-5), (name, error)
    for k, v in golden.items():
        np.save(folder / "in" / f"{k}.npy", v.numpy())
    np.save(folder / "out" / "output.npy", result)

    ops = Counter(n.op_type for n in model.graph.node)
    opset = ", ".join(f"{o.domain or 'onnx'} {o.version}" for o in model.opset_import)
    print(f"{name}: {path.stat().st_size} bytes, {opset}, IR {model.ir_version}, std {expected.std():.2f}, from torch {error:.0e}")
    print("   " + " ".join(f"{k}:{ops[k]}" for k in sorted(ops)), flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for wanted in sys.argv[1:] or NETWORKS:
        make(wanted)
