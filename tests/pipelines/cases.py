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
        # from_pipe leaves out an autoencoder of another class than the large one.
        variant = getattr(diffusers, change).from_pipe(pipe, vae=pipe.vae) if change else pipe
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
PAIR = dict(prompt=[PROMPT, OTHER], seed=[7, 8])
PICTURE = TEXT | dict(image=image())
SMALL = dict(height=32, width=32)  # where the pipeline's default is not twice the latents' size
GUIDED = dict(negative_prompt=NEGATIVE, guidance_scale=3.0)
LARGE = dict(height=32, width=32, use_resolution_binning=False, clean_caption=False)


def steps(count, guidance=0.0):
    return dict(num_inference_steps=count, guidance_scale=guidance)


def stable_diffusion(count, guidance=1.0, **more):
    """Text, guidance with a negative prompt, two pictures, from a picture, and within a mask."""
    plain = steps(count, guidance) | more
    painted = PICTURE | dict(mask_image=mask(), strength=0.99)
    return {
        "text": (None, TEXT | plain),
        "negative": (None, TEXT | plain | GUIDED),
        "batch": (None, PAIR | plain),
        "wide": (None, TEXT | plain | dict(height=24, width=40)),
        "image": ("StableDiffusionImg2ImgPipeline", PICTURE | plain | dict(strength=0.6)),
        "inpaint": ("StableDiffusionInpaintPipeline", painted | plain | SMALL),
    }


# By the pipeline's name: a run's name, the class it is switched to, the arguments.
RUNS = {
    "lcm": {
        "text": (None, TEXT | steps(4, 8.0)),
        "batch": (None, PAIR | steps(2, 5.0)),
        "image": ("LatentConsistencyModelImg2ImgPipeline", PICTURE | steps(4, 8.0) | dict(strength=0.6)),
    },
    "lcm_taesd": {
        "text": (None, TEXT | steps(4, 8.0)),
        "image": ("LatentConsistencyModelImg2ImgPipeline", PICTURE | steps(4, 8.0) | dict(strength=0.6)),
    },
    "smallest": {"text": (None, TEXT | steps(2, 8.0))},
    "sd15_lcm": stable_diffusion(4),
    "sd15": stable_diffusion(6, 4.0),
    "sd_turbo": {
        "text": (None, TEXT | steps(1)),
        "four": (None, TEXT | steps(4)),
        "image": ("StableDiffusionImg2ImgPipeline", PICTURE | steps(2) | dict(strength=0.5)),
    },
    "sd2_v": {"text": (None, TEXT | steps(4)), "negative": (None, TEXT | steps(4) | GUIDED)},
    "hyper_sd": {"text": (None, TEXT | steps(4) | dict(eta=0.3)), "one": (None, TEXT | steps(1) | dict(eta=1.0))},
    "sdxl_turbo": {
        "text": (None, TEXT | steps(1)),
        "four": (None, TEXT | steps(4)),
        "negative": (None, TEXT | steps(2) | GUIDED),
        "unguided": (None, TEXT | steps(2, 3.0)),
        "image": ("StableDiffusionXLImg2ImgPipeline", PICTURE | steps(2) | dict(strength=0.5)),
    },
    "sdxl_lightning": {"text": (None, TEXT | steps(4)), "batch": (None, PAIR | steps(2))},
    "sd3_turbo": {
        "text": (None, TEXT | steps(4)),
        "negative": (None, TEXT | steps(4) | GUIDED | dict(max_sequence_length=64)),
        "batch": (None, PAIR | steps(2) | dict(max_sequence_length=64)),
        "image": ("StableDiffusion3Img2ImgPipeline", PICTURE | steps(4) | SMALL | dict(strength=0.5)),
    },
    "flux_schnell": {
        "text": (None, TEXT | steps(4) | SMALL),
        "batch": (None, PAIR | steps(2) | SMALL | dict(max_sequence_length=64)),
        "wide": (None, TEXT | steps(2) | dict(height=24, width=40, max_sequence_length=64)),
    },
    "pixart_lcm": {"text": (None, TEXT | steps(4) | LARGE), "batch": (None, PAIR | steps(2) | LARGE)},
    "sana_sprint": {
        "text": (None, TEXT | steps(2, 4.5) | LARGE),
        "plain": (None, TEXT | steps(2, 4.5) | LARGE | dict(complex_human_instruction=None)),
        "four": (None, PAIR | steps(4, 2.0) | LARGE | dict(intermediate_timesteps=None, complex_human_instruction=None)),
    },
}
