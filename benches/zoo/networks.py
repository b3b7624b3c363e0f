"""The networks of the zoo in PyTorch, at the sizes at which they are deployed. Structures follow the sources named."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def randomise(module):
    """Fill what is initialised with zeros or ones (adaLN-zero, norms), so that every path carries a signal."""
    for m in module.modules():
        if isinstance(m, (nn.GroupNorm, nn.LayerNorm)) and m.weight is not None:
            nn.init.normal_(m.weight, 1.0, 0.2)
    for p in module.parameters():
        if not p.abs().max() > 0:
            nn.init.normal_(p, 0.0, 0.1 if p.ndim == 1 else 0.5 / math.sqrt(p[0].numel()))
    return module.eval()


class Diffusers(nn.Module):
    """A diffusers model as a function from tensors, by position, to one tensor."""

    def __init__(self, model, *names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *args):
        return self.model(**dict(zip(self.names, args)), return_dict=False)[0]


def waves(t, size, cosine_first=True):
    """t `[batch]` to cosines and sines `[batch, size]` of 1 to 1/10000 times t."""
    half = size // 2
    angles = t[:, None].float() * torch.exp(-math.log(10000) / half * torch.arange(half, dtype=torch.float32, device=t.device))[None]
    parts = [angles.cos(), angles.sin()]
    return torch.cat(parts if cosine_first else parts[::-1], dim=-1)


# --- Diffusion Policy, arXiv:2303.04137: diffusion_policy/model/diffusion/conditional_unet1d.py ---


class ConvBlock(nn.Sequential):
    """Convolution, group normalisation, Mish."""

    def __init__(self, before, after, kernel=5, groups=8):
        super().__init__(nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(groups, after), nn.Mish())


class FilmBlock(nn.Module):
    """A residual block; the condition scales and shifts each channel between its convolutions."""

    def __init__(self, before, after, condition):
        super().__init__()
        self.after = after
        self.first, self.second = ConvBlock(before, after), ConvBlock(after, after)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * after))
        self.skip = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x, condition):
        film = self.film(condition).reshape(x.shape[0], 2, self.after, 1)
        return self.second(film[:, 0] * self.first(x) + film[:, 1]) + self.skip(x)


class PolicyUnet(nn.Module):
    """ConditionalUnet1D; with two times, that of Consistency Policy (arXiv:2405.07503)."""

    def __init__(self, actions, observation, times=1, widths=(256, 512, 1024), embedding=128):
        super().__init__()
        self.embedding = embedding
        e, condition = embedding, times * embedding + observation
        self.times = nn.ModuleList(nn.Sequential(nn.Linear(e, 4 * e), nn.Mish(), nn.Linear(4 * e, e)) for _ in range(times))
        levels = list(zip((actions, *widths), widths))
        pair = lambda before, after: [FilmBlock(before, after, condition), FilmBlock(after, after, condition)]  # noqa: E731
        self.down = nn.ModuleList(nn.ModuleList(pair(*level)) for level in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(after, after, 3, 2, 1) for _, after in levels[:-1])
        self.middle = nn.ModuleList(pair(widths[-1], widths[-1]))
        self.up = nn.ModuleList(nn.ModuleList(pair(2 * after, before)) for before, after in reversed(levels[1:]))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(before, before, 4, 2, 1) for before, _ in reversed(levels[1:]))
        self.head = nn.Sequential(ConvBlock(widths[0], widths[0]), nn.Conv1d(widths[0], actions, 1))

    def forward(self, sample, *rest):
        """sample `[batch, horizon, actions]`, each time `[batch]`, observation `[batch, features]`."""
        *times, observation = rest
        embedded = [embed(waves(t, self.embedding, False)) for embed, t in zip(self.times, times)]
        condition = torch.cat([*embedded, observation], dim=-1)
        x, skips = sample.transpose(1, 2), []
        for level, (first, second) in enumerate(self.down):
            x = second(first(x, condition), condition)
            skips.append(x)
            x = self.shrink[level](x) if level < len(self.shrink) else x
        for block in self.middle:
            x = block(x, condition)
        for (first, second), grow in zip(self.up, self.grow):
            x = first(torch.cat([x, skips.pop()], dim=1), condition)
            x = grow(second(x, condition))
        return self.head(x).transpose(1, 2)


# --- DiT, arXiv:2212.09748: models.py; two times as in MeanFlow, arXiv:2505.13447 ---


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class TimeEmbedding(nn.Module):
    def __init__(self, width, waves=256):
        super().__init__()
        self.waves = waves
        self.mlp = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        return self.mlp(waves(t, self.waves))


class DitBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attend(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attend(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Dit(nn.Module):
    """A latent transformer with adaLN-zero, two times and a class."""

    def __init__(self, width, heads, patch, depth=12, size=32, channels=4, classes=1000):
        super().__init__()
        self.patch, self.grid, self.channels = patch, size // patch, channels
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, self.grid**2, width) * 0.5, requires_grad=False)
        self.times = nn.ModuleList(TimeEmbedding(width) for _ in range(2))
        self.label = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(DitBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, channels * patch**2)

    def forward(self, x, t, h, label):
        """x `[batch, channels, size, size]`, t and h = t - r `[batch]`, label `[batch]`."""
        c = self.times[0](t) + self.times[1](h) + self.label(label)
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulation(c).chunk(2, dim=1)
        x = self.head(modulate(self.norm(x), shift, scale))
        x = x.reshape(x.shape[0], self.grid, self.grid, self.patch, self.patch, self.channels)
        x = torch.einsum("nhwpqc->nchpwq", x)
        return x.reshape(x.shape[0], self.channels, self.grid * self.patch, self.grid * self.patch)


# --- flow head of streaming speech: SimpleMLPAdaLN of MAR (arXiv:2406.11838), as kyutai-labs/pocket-tts has it ---


class PlainLayerNorm(nn.Module):
    """Layer normalisation written out, as that network has it."""

    def __init__(self, width, affine=True):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(width) * 0.2 + n) if affine else None for n in (1.0, 0.0))

    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        x = centred / torch.sqrt(x.var(dim=-1, unbiased=False, keepdim=True) + 1e-6)
        return x if self.weight is None else x * self.weight + self.bias


class VarianceNorm(nn.Module):
    """Division by the unbiased standard deviation, without centring."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width) * 0.2 + 1.0)

    def forward(self, x):
        return x * (self.weight * torch.rsqrt(x.var(dim=-1, keepdim=True) + 1e-5))


class HeadBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = PlainLayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x, c):
        shift, scale, gate = self.modulation(c).chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


class FlowHead(nn.Module):
    def __init__(self, latent=32, condition=1024, width=512, depth=6):
        super().__init__()
        self.times = nn.ModuleList(nn.Sequential(TimeEmbedding(width), VarianceNorm(width)) for _ in range(2))
        self.condition, self.enter = nn.Linear(condition, width), nn.Linear(latent, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(depth))
        self.norm = PlainLayerNorm(width, affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, latent)

    def forward(self, x, s, t, condition):
        """x `[batch, latent]` at time s, to the mean velocity until t, both `[batch]`; condition `[batch, features]`."""
        c = (self.times[0](s) + self.times[1](t)) / 2 + self.condition(condition)
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.head(self.norm(x) * (1 + scale) + shift)


# --- latent diffusion, arXiv:2112.10752, by diffusers ---


def condition_unet(**config):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(in_channels=4, out_channels=4, layers_per_block=2, attention_head_dim=8, **config)
