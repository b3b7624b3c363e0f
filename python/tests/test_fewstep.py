"""The package against the program: python -m unittest, with FEWSTEP the program and FEWSTEP_WORK a folder to write in."""

import os
import subprocess
import threading
import unittest
from pathlib import Path

import fewstep
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(os.environ["FEWSTEP_WORK"])


def program(*arguments):
    subprocess.run([os.environ["FEWSTEP"], *map(str, arguments)], check=True, capture_output=True)


def setUpModule():
    program("compile", ROOT / "models/digits", "-o", WORK / "digits.fsp")


class Sessions(unittest.TestCase):
    def setUp(self):
        self.session = fewstep.Session(WORK / "digits.fsp", threads=1, seed=42)

    def test_samples_are_those_of_the_program(self):
        program("sample", WORK / "digits.fsp", "-n", 1, "--seed", 42, "--cond", "label=7", "--threads", 1, "-o", WORK / "out.npy")
        self.session.set_condition("label", 7)
        sample = self.session.sample()
        self.assertEqual((sample.shape, sample.dtype), ((1, 28, 28), np.float32))
        np.testing.assert_array_equal(sample, np.load(WORK / "out.npy").reshape(sample.shape))
        self.assertEqual(self.session.seed, 43)

    def test_facts(self):
        self.assertEqual((self.session.shape, self.session.steps), ([1, 28, 28], 1))
        self.assertEqual(self.session.conditions, {"label": []})

    def test_arrays_are_read_and_written_in_place(self):
        noise, out = np.random.default_rng(0).standard_normal((1, 28, 28), np.float32), np.zeros((1, 28, 28), np.float32)
        self.assertIs(self.session.sample(noise, out=out), out)
        self.session.seed = 7  # one step needs no noise but the first
        np.testing.assert_array_equal(out, self.session.sample(noise))
        buffer = bytearray(out.nbytes)
        self.session.sample(noise, out=memoryview(buffer).cast("f"))
        np.testing.assert_array_equal(out.ravel(), np.frombuffer(buffer, np.float32))

    def test_conditions_are_numbers_or_arrays(self):
        noise = np.zeros((1, 28, 28), np.float32)
        samples = []
        for label in (3, 3.0, [3], np.array([3]), np.float32(3)):
            self.session.set_condition("label", label)
            samples.append(self.session.sample(noise))
        for sample in samples:
            np.testing.assert_array_equal(sample, samples[0])

    def test_what_is_wrong_is_told(self):
        right = np.zeros((1, 28, 28), np.float32)
        fixed = right.copy()
        fixed.flags.writeable = False
        for call, error, told in [
            (lambda: fewstep.Plan("not/here.fsp"), fewstep.Error, "not/here.fsp: cannot read the plan"),
            (lambda: fewstep.Session(WORK / "digits.fsp", precision="f64"), ValueError, "not f64"),
            (lambda: fewstep.Session(WORK / "digits.fsp", sampler="nothing"), fewstep.Error, "nothing"),
            (lambda: fewstep.Session(3), TypeError, ""),
            (lambda: self.session.set_condition("colour", 1), fewstep.Error, "colour"),
            (lambda: self.session.set_condition("label", 70), fewstep.Error, "label"),
            (lambda: self.session.set_condition("label", [1, 2]), fewstep.Error, "label"),
            (lambda: self.session.sample(out=right.astype(np.float64)), TypeError, "out is no array of float32"),
            (lambda: self.session.sample(out=right[..., ::2]), TypeError, "out is not contiguous"),
            (lambda: self.session.sample(out=fixed), TypeError, "out can not be written"),
            (lambda: self.session.sample(out=right.ravel()[1:]), fewstep.Error, "783 values"),
            (lambda: self.session.sample(right, out=right), ValueError, "share memory"),
        ]:
            with self.assertRaises(error) as raised:
                call()
            self.assertIn(told, str(raised.exception))
        # Still well.
        self.session.sample(out=right)

    def test_sessions_of_one_plan_run_at_once(self):
        plan = fewstep.Plan(WORK / "digits.fsp")
        plan.verify()
        noise = np.ones((1, 28, 28), np.float32)
        wanted, found = self.session.sample(noise), []
        run = lambda: found.extend(fewstep.Session(plan, threads=1).sample(noise) for _ in range(20))
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), 40)
        for sample in found:
            np.testing.assert_array_equal(sample, wanted)


if __name__ == "__main__":
    unittest.main()
