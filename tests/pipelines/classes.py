"""The pipelines: one function for each class, named as its folder. `PIPELINES` lists them."""

import components
import diffusers
import tiny_tokenizers as tokenizers

PIPELINES = {}


def pipeline(fn):
    PIPELINES[fn.__name__] = fn
    return fn


SCALED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def stable_diffusion(cls, scheduler, tokenizer=None, unet=None, encoder=None, vae=None, **more):
    """A pipeline of one CLIP encoder, a UNet and a VAE, without a safety checker."""
    tokenizer = tokenizer or tokenizers.clip()
    return cls(
        tokenizer=tokenizer,
        text_encoder=encoder or components.clip(tokenizer, seed=1),
        unet=unet or components.unet(seed=2),
        vae=vae or components.vae(seed=3),
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
def lcm_taesd():
    """With the small autoencoder that is put in the large one's place."""
    scheduler = diffusers.LCMScheduler(**SCALED)
    unet = components.unet(seed=2, time_cond_proj_dim=32)
    vae = components.tiny_vae(seed=3)
    return stable_diffusion(diffusers.LatentConsistencyModelPipeline, scheduler, unet=unet, vae=vae)


@pipeline
def smallest():
    """An LCM that is small enough for the repository."""
    tokenizer = tokenizers.clip()
    widths = dict(block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=2, cross_attention_dim=16)
    return diffusers.LatentConsistencyModelPipeline(
        tokenizer=tokenizer,
        text_encoder=components.clip(tokenizer, seed=1, width=16),
        unet=components.unet(seed=2, time_cond_proj_dim=16, **widths),
        vae=components.vae(seed=3, widths=(8, 8)),
        scheduler=diffusers.LCMScheduler(**SCALED),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pipeline
def sd15_lcm():
    """LCM-LoRA merged into Stable Diffusion 1.5."""
    return stable_diffusion(diffusers.StableDiffusionPipeline, diffusers.LCMScheduler(**SCALED))


@pipeline
def sd15():
    scheduler = diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    return stable_diffusion(diffusers.StableDiffusionPipeline, scheduler)


def stable_diffusion_2(scheduler):
    """The second one's tokenizer pads with "!", and its encoder, one layer short, has another activation."""
    tokenizer = tokenizers.clip(pad="!")
    encoder = components.clip(tokenizer, seed=4, act="gelu")
    unet = components.unet(seed=5, use_linear_projection=True, attention_head_dim=(2, 4))
    return stable_diffusion(diffusers.StableDiffusionPipeline, scheduler, tokenizer, unet, encoder)


@pipeline
def sd_turbo():
    return stable_diffusion_2(diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing="trailing"))


@pipeline
def sd2_v():
    """A network that predicts v."""
    more = dict(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
    return stable_diffusion_2(diffusers.DDIMScheduler(**SCALED, **more, rescale_betas_zero_snr=True))


@pipeline
def hyper_sd():
    return stable_diffusion(diffusers.StableDiffusionPipeline, diffusers.TCDScheduler(**SCALED))


def sdxl(scheduler):
    tokenizer, second = tokenizers.clip(), tokenizers.clip(pad="!")
    return diffusers.StableDiffusionXLPipeline(
        tokenizer=tokenizer,
        tokenizer_2=second,
        text_encoder=components.clip(tokenizer, seed=6),
        text_encoder_2=components.clip(second, seed=7, projected=True, act="gelu"),
        unet=components.sdxl_unet(seed=8),
        vae=components.vae(seed=9, scale=0.13025),
        scheduler=scheduler,
        add_watermarker=False,
    )


@pipeline
def sdxl_turbo():
    return sdxl(diffusers.EulerAncestralDiscreteScheduler(**SCALED, timestep_spacing="trailing"))


@pipeline
def sdxl_lightning():
    return sdxl(diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing="trailing"))


@pipeline
def sd3_turbo():
    """Three encoders; CLIP's two, side by side, are padded to T5's width."""
    tokenizer, second, third = tokenizers.clip(), tokenizers.clip(pad="!"), tokenizers.t5(length=512)
    return diffusers.StableDiffusion3Pipeline(
        tokenizer=tokenizer,
        tokenizer_2=second,
        tokenizer_3=third,
        text_encoder=components.clip(tokenizer, seed=10, projected=True),
        text_encoder_2=components.clip(second, seed=11, projected=True, act="gelu"),
        text_encoder_3=components.t5(third, seed=12, width=2 * components.WIDTH),
        transformer=components.sd3_transformer(seed=13),
        vae=components.vae(seed=14, channels=16, scale=1.5305, shift=0.0609, quant=False),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


@pipeline
def flux_schnell():
    tokenizer, second = tokenizers.clip(), tokenizers.t5(length=512)
    return diffusers.FluxPipeline(
        tokenizer=tokenizer,
        tokenizer_2=second,
        text_encoder=components.clip(tokenizer, seed=15),
        text_encoder_2=components.t5(second, seed=16),
        transformer=components.flux_transformer(seed=17),
        vae=components.vae(seed=18, channels=16, scale=0.3611, shift=0.1159, quant=False),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


@pipeline
def pixart_lcm():
    tokenizer = tokenizers.t5(length=512)
    return diffusers.PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=components.t5(tokenizer, seed=19),
        transformer=components.pixart_transformer(seed=20),
        vae=components.vae(seed=21),
        scheduler=diffusers.LCMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )


@pipeline
def sana_sprint():
    tokenizer = tokenizers.gemma()
    return diffusers.SanaSprintPipeline(
        tokenizer=tokenizer,
        text_encoder=components.gemma(tokenizer, seed=22),
        transformer=components.sana_transformer(seed=23),
        vae=components.deep_compression_vae(seed=24),
        scheduler=diffusers.SCMScheduler(prediction_type="trigflow", sigma_data=0.5),
    )
