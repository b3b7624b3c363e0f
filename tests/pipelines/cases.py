"""What each pipeline is asked for: `RUNS`, by the pipeline's name."""

import diffusers
import numpy as np
from record import record

PROMPT = "A red cat on the moon, oil painting"
OTHER = "a tiny glowing lighthouse by the sea, 35mm photograph"
NEGATIVE = "broken, misty"


def run(pipe, folder, name):
    """All runs of a pipeline, written into folder."""
    found = []
    for case, (change, arguments) in RUNS[name].items():
        variant = getattr(diffusers, change).from_pipe(pipe) if change else pipe
        variant.set_progress_bar_config(disable=True)
        found.append(record(variant, folder, case, **arguments))
    return found


def image(side=32):
    """A smooth picture in colour, [side, side, 3] in [0, 1]."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return np.stack([x, y, 0.5 + 0.5 * np.sin(6 * x * y)], -1).astype(np.float32)


def mask(side=32):
    """The part to paint anew: a rectangle of ones."""
    result = np.zeros((side, side, 1), np.float32)
    result[side // 4 : 3 * side // 4, side // 8 : side // 2] = 1
    return result


TEXT = dict(prompt=PROMPT, seed=7)
RUNS = {
    "lcm": {
        "text": (None, TEXT | dict(num_inference_steps=4, guidance_scale=8.0)),
        "batch": (None, dict(prompt=[PROMPT, OTHER], seed=[7, 8], num_inference_steps=2, guidance_scale=5.0)),
        "image": (
            "LatentConsistencyModelImg2ImgPipeline",
            TEXT | dict(image=image(), strength=0.6, num_inference_steps=4, guidance_scale=8.0),
        ),
    },
}
