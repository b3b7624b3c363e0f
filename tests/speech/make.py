#!/usr/bin/env python3
"""A tiny text-to-speech model in the manner of Matcha-TTS (Mehta et al. 2023, arXiv 2309.03199), with random weights: text
encoder with durations, one-dimensional U-Net that gives a velocity, and a vocoder of transposed convolutions. Writes the
three networks as ONNX beside a manifest, and what PyTorch makes of prompts.

    python tests/speech/make.py -o tests/speech/matcha

`decoder.onnx` normalises over all frames, as Matcha does, so that padded frames change the others. `decoder_masked.onnx`
normalises each frame by itself, so that they do not.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CHANNELS, WIDTH, SPEAKERS, HOP = 8, 16, 2, 8
MEAN, DEVIATION, TEMPERATURE, STEPS = -1.5, 2.0, 0.667, 3
SYMBOLS = ["_", " ", ",", "a", "e", "h", "l", "o", "ə", "ʊ", "oʊ", "ˈ", "s", "t"]


class ChannelNorm(nn.LayerNorm):
    """Over the channels of [batch, channels, frames]."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x, mask):
        b, c, t = x.shape
        q, k, v = self.qkv(x).view(b, 3 * self.heads, c // self.heads, t).chunk(3, dim=1)
        scores = q.transpose(2, 3) @ k / math.sqrt(c // self.heads)
        scores = scores.masked_fill(mask.unsqueeze(1) == 0, -1e4)
        return self.out((v @ scores.softmax(-1).transpose(2, 3)).reshape(b, c, t)) * mask


class Encoder(nn.Module):
    """Token ids [1, tokens], lengths [1], speaker [1] -> mu_x, logw, spks."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(SYMBOLS), WIDTH)
        self.speakers = nn.Embedding(SPEAKERS, WIDTH)
        self.prenet = nn.Conv1d(WIDTH, WIDTH, 5, padding=2)
        self.attention = Attention(WIDTH)
        self.norm = ChannelNorm(WIDTH)
        self.mean = nn.Conv1d(WIDTH, CHANNELS, 1)
        self.durations = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.log = nn.Conv1d(WIDTH, 1, 1)

    def forward(self, x, x_lengths, speaker):
        spks = self.speakers(speaker)
        mask = (torch.arange(x.shape[1]) < x_lengths.unsqueeze(1)).unsqueeze(1).float()
        h = self.embedding(x).transpose(1, 2) + spks.unsqueeze(2)
        h = h + F.relu(self.prenet(h * mask))
        h = self.norm(h + self.attention(h * mask, mask))
        logw = self.log(F.relu(self.durations(h * mask))) * mask + 1.0
        return self.mean(h) * mask, logw, spks


class Block(nn.Module):
    """Matcha's ResnetBlock1D."""

    def __init__(self, inner, outer, norm):
        super().__init__()
        self.first, self.second = nn.Conv1d(inner, outer, 3, padding=1), nn.Conv1d(outer, outer, 3, padding=1)
        self.norms = nn.ModuleList([norm(outer), norm(outer)])
        self.time = nn.Linear(WIDTH, outer)
        self.skip = nn.Conv1d(inner, outer, 1)

    def forward(self, x, mask, time):
        h = F.mish(self.norms[0](self.first(x * mask))) * mask + self.time(F.mish(time)).unsqueeze(2)
        h = F.mish(self.norms[1](self.second(h * mask))) * mask
        return h + self.skip(x * mask)


class Decoder(nn.Module):
    """State and mean [1, channels, frames], mask [1, 1, frames], time [1], speaker [1, width] -> velocity."""

    def __init__(self, norm):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.first = Block(2 * CHANNELS + WIDTH, WIDTH, norm)
        self.down = nn.Conv1d(WIDTH, WIDTH, 3, 2, 1)
        self.middle = Block(WIDTH, WIDTH, norm)
        self.attention = Attention(WIDTH)
        self.up = nn.ConvTranspose1d(WIDTH, WIDTH, 4, 2, 1)
        self.last = Block(2 * WIDTH, WIDTH, norm)
        self.out = nn.Conv1d(WIDTH, CHANNELS, 1)

    def forward(self, x, mask, mu, t, spks):
        frequencies = torch.exp(torch.arange(WIDTH // 2) * (-math.log(10000) / (WIDTH // 2 - 1)))
        angles = 1000 * t.unsqueeze(1) * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        first = self.first(torch.cat([x, mu, spks.unsqueeze(2).expand(-1, -1, x.shape[2])], dim=1), mask, time)
        halved = mask[:, :, ::2]
        h = self.middle(self.down(first * mask), halved, time)
        h = h + self.attention(h * halved, halved)
        h = self.last(torch.cat([self.up(h * halved), first], dim=1), mask, time)
        return self.out(h * mask) * mask


class Vocoder(nn.Module):
    """HiFi-GAN's generator: mel [1, channels, frames] -> waveform [1, 1, samples]."""

    def __init__(self):
        super().__init__()
        self.pre = nn.Conv1d(CHANNELS, 16, 7, padding=3)
        self.ups = nn.ModuleList([nn.ConvTranspose1d(16, 8, 8, 4, 2), nn.ConvTranspose1d(8, 4, 4, 2, 1)])
        self.residuals = nn.ModuleList([nn.Conv1d(8, 8, 3, padding=3, dilation=3), nn.Conv1d(4, 4, 3, padding=3, dilation=3)])
        self.post = nn.Conv1d(4, 1, 7, padding=3)

    def forward(self, mel):
        h = self.pre(mel)
        for up, residual in zip(self.ups, self.residuals):
            h = up(F.leaky_relu(h, 0.1))
            h = h + residual(F.leaky_relu(h, 0.1))
        return torch.tanh(self.post(F.leaky_relu(h)))


class Noisy(nn.Module):
    """What is left of Matcha's own export, which has the solver and its noise inside."""

    def forward(self, x):
        return torch.randn_like(x)


def say(encoder, decoder, vocoder, ids, seed, speaker, length_scale=1.0):
    """Matcha's `synthesise`, from its matcha_tts.py and flow_matching.py: mel [channels, frames], waveform [samples]."""
    mu_x, logw, spks = encoder(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([speaker]))
    durations = torch.ceil(torch.exp(logw[0, 0])) * length_scale
    ends = durations.cumsum(0)
    frames = int(ends[-1].clamp_min(1).long())
    padded = -(-frames // 4) * 4
    mask = (torch.arange(padded) < frames).float().view(1, 1, -1)
    path = (torch.arange(padded) < ends.unsqueeze(1)).float()
    path = path - F.pad(path, (0, 0, 1, 0))[:-1]
    mu = mu_x @ (path * mask[0]).unsqueeze(0)
    x = torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed)) * TEMPERATURE
    times = torch.linspace(0, 1, STEPS + 1)
    for begin, end in zip(times, times[1:]):
        x = x + (end - begin) * decoder(x, mask, mu, begin.view(1), spks)
    mel = x[:, :, :frames] * DEVIATION + MEAN
    return mel[0], vocoder(mel)[0, 0]


def export(model, path, inputs, names, outputs, dynamic):
    torch.onnx.export(model, inputs, path, input_names=names, output_names=outputs, dynamic_axes=dynamic,
                      opset_version=17, dynamo=False)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    encoder, vocoder = Encoder().eval(), Vocoder().eval()
    decoder = Decoder(lambda width: nn.GroupNorm(4, width)).eval()
    masked = Decoder(ChannelNorm).eval()
    vocoder.post.weight.mul_(8.0)  # A waveform that can be heard.

    tokens, frames = {1: "tokens"}, {2: "frames"}
    export(encoder, folder / "encoder.onnx", (torch.tensor([[1, 2, 3]]), torch.tensor([3]), torch.tensor([0])),
           ["x", "x_lengths", "speaker"], ["mu_x", "logw", "spks"], {"x": tokens, "mu_x": {2: "tokens"}, "logw": {2: "tokens"}})
    state, mask = torch.randn(1, CHANNELS, 12), torch.ones(1, 1, 12)
    for name, model in [("decoder", decoder), ("decoder_masked", masked)]:
        export(model, folder / f"{name}.onnx", (state, mask, state, torch.zeros(1), torch.zeros(1, WIDTH)),
               ["x", "mask", "mu", "t", "spks"], ["velocity"], {"x": frames, "mask": frames, "mu": frames, "velocity": frames})
    export(vocoder, folder / "vocoder.onnx", (state,), ["mel"], ["audio"], {"mel": frames, "audio": {2: "samples"}})

    export(Noisy(), folder / "noisy.onnx", (state,), ["x"], ["mel"], {})

    (folder / "tokens.txt").write_text("".join(f"{symbol} {i}\n" for i, symbol in enumerate(SYMBOLS)), encoding="utf-8")
    prompt = ["h", "ə", "l", "ˈ", "oʊ", ",", " ", "t", "e", "s", "t", "oʊ", "a"]
    ids = [0]
    for symbol in prompt:
        ids += [SYMBOLS.index(symbol), 0]
    cases = {"plain": (decoder, 0, 1.0), "masked": (masked, 0, 1.0), "slow": (decoder, 1, 1.3)}
    for name, (model, speaker, scale) in cases.items():
        mel, audio = say(encoder, model, vocoder, ids, 7, speaker, scale)
        np.save(folder / f"{name}_mel.npy", mel.numpy())
        np.save(folder / f"{name}_audio.npy", audio.numpy())
        print(f"{name}: {mel.shape[1]} frames, waveform's deviation {audio.std():.3f}")


if __name__ == "__main__":
    main()
