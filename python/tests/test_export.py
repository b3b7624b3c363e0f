"""Exported modules against PyTorch, where that is installed: python -m unittest, with FEWSTEP the program."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

try:
    import onnxscript  # noqa: F401
    import torch
except ImportError as error:
    raise unittest.SkipTest(f"{error.name} is not installed") from None

from fewstep import export

PROGRAM = os.environ["FEWSTEP"]


class Velocity(torch.nn.Module):
    """A small network of a state, times and a class."""

    def __init__(self, times=1, classes=0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(classes, 8) if classes else None
        self.first = torch.nn.Linear(6 + times + (8 if classes else 0), 32)
        self.last = torch.nn.Linear(32, 6)

    def forward(self, x, *others):
        others = list(others)
        label = self.embedding(others.pop()) if self.embedding else None
        parts = [x] + [torch.cos(time)[:, None] for time in others] + ([] if label is None else [label])
        return self.last(torch.nn.functional.silu(self.first(torch.cat(parts, 1))))


class Exports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "network"

    def export(self, module, inputs, sampling, **rest):
        return export.export(module, self.folder, inputs=inputs, sampling=sampling, program=PROGRAM, **rest)

    def sample(self, *arguments):
        out = self.folder / "out.npy"
        command = [PROGRAM, "sample", self.folder, "-n", 1, "--no-cache", "-o", out, *arguments]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        return np.load(out)

    def test_every_recipe_samples(self):
        one, two = {"x": export.state(6), "t": export.time()}, {"x": export.state(6), "t": export.time(), "s": export.target()}
        mean = {"x": export.state(6), "t": export.time(), "h": export.duration()}
        for inputs, sampling in [
            (one, export.consistency()),
            (one, export.latent_consistency()),
            (one, export.diffusion_policy()),
            (one, export.rectified_flow(noise_at=0)),
            (two, export.consistency_trajectory(steps=2)),
            (two, export.consistency_policy()),
            (mean, export.mean_flow(steps=2)),
        ]:
            with self.subTest(sampling=sampling):
                self.export(Velocity(times=len(inputs) - 1), inputs, sampling)
                self.assertEqual(self.sample().shape[-1], 6)

    def test_samples_are_what_the_rule_gives_in_torch(self):
        module = Velocity(classes=3)
        inputs = {"x": export.state(6), "t": export.time(), "label": export.condition(default=0, range=(0, 2), integer=True)}
        self.export(module, inputs, export.rectified_flow(steps=2), summary="A test", license="MIT")
        # Euler from noise at 1 to data at 0.
        x = torch.randn(1, 6, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            for time in (1.0, 0.5):
                x = x - 0.5 * module(x, torch.tensor([time]), torch.tensor([2]))
        np.testing.assert_allclose(self.sample("--seed", 5, "--cond", "label=2").reshape(1, 6), x.numpy(), atol=1e-5)

    def test_what_is_wrong_is_told(self):
        inputs = {"x": export.state(6), "t": export.time()}
        with self.assertRaisesRegex(ValueError, "sigma_min"):
            self.export(Velocity(), inputs, {**export.consistency(), "sigma_min": -1})
        with self.assertRaisesRegex(ValueError, "relative L2"):
            self.export(Velocity(), inputs, export.rectified_flow(), tolerance=0.0)
        with self.assertRaisesRegex(ValueError, "no program nothing"):
            export.export(Velocity(), self.folder, inputs=inputs, sampling=export.rectified_flow(), program="nothing")
        with self.assertRaisesRegex(ValueError, "manifest holds"):
            self.export(Velocity(), inputs, {**export.rectified_flow(), "shift": object()})

    def test_a_module_keeps_its_mode(self):
        module = Velocity().train()
        self.export(module, {"x": export.state(6), "t": export.time()}, export.rectified_flow(), dynamic_batch=False)
        self.assertTrue(module.training)


if __name__ == "__main__":
    unittest.main()
