from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__version__: str

class Error(Exception):
    """What a plan, a session or a sample can not do."""

class Plan:
    """A plan file, mapped into memory. Any number of sessions and threads may use it at once.

    Raises Error if the file can not be read, or is not one of sound plans of this version.
    """

    def __init__(self, path: str | PathLike[str]) -> None: ...
    def verify(self) -> None:
        """Compare the weights with their checksum, which reads them all; raises Error if they are damaged."""

    @property
    def path(self) -> Path: ...
    @property
    def origin(self) -> str:
        """What the plans were made of, for people."""

class Session:
    """A model that is ready to be sampled. One thread at a time may use it; others run Python meanwhile.

    plan: a Plan, or where its file is.
    threads: 0 for as many as the CPU runs at once, 1 for none but the caller's.
    steps, sampler, guidance: in the place of the plan's.
    seed: of the first sample's noise, as PyTorch draws it on a CPU; the next sample has the next seed.
    precision: f32 (what there is, if the plan has no f32), f16, or auto for the file's first.
    prefault: bring all weights into memory beforehand.
    max_memory: bytes that the process may take, on Linux.

    Raises Error if the plan does not run here, or its model does not allow what is asked for.
    """

    def __init__(
        self,
        plan: Plan | str | PathLike[str],
        *,
        threads: int = 0,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        seed: int = 0,
        precision: Literal["f32", "f16", "auto"] = "f32",
        prefault: bool = False,
        max_memory: int | None = None,
    ) -> None: ...
    @property
    def shape(self) -> list[int]:
        """Of a sample."""

    @property
    def steps(self) -> int:
        """Network evaluations a sample."""

    @property
    def conditions(self) -> dict[str, list[int]]:
        """The names of the conditions, and the shape of each."""

    @property
    def seed(self) -> int:
        """Of the next sample's noise."""

    @seed.setter
    def seed(self, seed: int) -> None: ...
    def set_condition(self, name: str, values: float | ArrayLike) -> None:
        """Set a condition for the samples to come: one value for all its elements, or one for each."""

    def set_negative(self, name: str, values: float | ArrayLike) -> None:
        """Set what guidance moves away from."""

    def sample(self, noise: NDArray[np.float32] | None = None, out: Any = None) -> NDArray[np.float32]:
        """Draw one sample into a new array, or into `out`: any writable, contiguous buffer of float32.

        noise: unit normal values in the place of those of the seed, a contiguous array of float32.
        Raises Error if a condition has no value, a length is wrong, or the network returns what is not finite.
        """
