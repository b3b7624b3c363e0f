"""The pipelines: one function for each class, named as its folder. `PIPELINES` lists them."""

import components
import diffusers
import tiny_tokenizers as tokenizers

PIPELINES = {}


def pipeline(fn):
    PIPELINES[fn.__name__] = fn
    return fn


SCALED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def stable_diffusion(cls, scheduler, tokenizer=None, unet=None, encoder=None, **more):
    """A pipeline of one CLIP encoder, a UNet and a VAE, without a safety checker."""
    tokenizer = tokenizer or tokenizers.clip()
    return cls(
        tokenizer=tokenizer,
        text_encoder=encoder or components.clip(tokenizer, seed=1),
        unet=unet or components.unet(seed=2),
        vae=components.vae(seed=3),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )


@pipeline
def lcm():
    """Guidance is an input of the network."""
    scheduler = diffusers.LCMScheduler(**SCALED)
    unet = components.unet(seed=2, time_cond_proj_dim=32)
    return stable_diffusion(diffusers.LatentConsistencyModelPipeline, scheduler, unet=unet)


@pipeline
def sd15_lcm():
    """LCM-LoRA merged into Stable Diffusion 1.5."""
    return stable_diffusion(diffusers.StableDiffusionPipeline, diffusers.LCMScheduler(**SCALED))


@pipeline
def sd15():
    scheduler = diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    return stable_diffusion(diffusers.StableDiffusionPipeline, scheduler)
