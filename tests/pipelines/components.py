"""Tiny random-weight components from the public config classes of diffusers and transformers.

Weights are scaled so that every output has a spread of about one: a network with the libraries' own initial weights
hardly changes with its prompt or its time, and would prove nothing.
"""

import math

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

WIDTH = 32  # of every encoder
SIDE = 16  # of the latents


def lively(module, seed):
    """Random weights: products keep their input's spread, norms and biases are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim >= 2:
                spread = 1.0 if "embedding" in name or "embed_tokens" in name or "shared" in name else 1 / math.sqrt(weight[0].numel())
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            elif name.endswith("weight"):
                weight.copy_(1 + 0.2 * torch.randn(weight.shape, generator=generator))
            else:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def clip(tokenizer, seed, projected=False, act="quick_gelu", width=WIDTH):
    """CLIP's text encoder with two layers; with `projected`, the one that has text_embeds."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=width,
        hidden_act=act,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return lively((CLIPTextModelWithProjection if projected else CLIPTextModel)(config), seed)


def t5(tokenizer, seed, width=WIDTH):
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
    )
    return lively(T5EncoderModel(config), seed)


def gemma(tokenizer, seed):
    """Gemma 2's decoder without its head, as Sana's text encoder is."""
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=512,
    )
    return lively(Gemma2Model(config), seed)


def unet(seed, **more):
    """A UNet of two levels with cross-attention in one of them."""
    options = dict(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    return lively(UNet2DConditionModel(**(options | more)), seed)


def sdxl_unet(seed):
    """Two encoders side by side, and six time ids with the pooled text."""
    return unet(
        seed,
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )


def vae(seed, channels=4, scale=0.18215, shift=None, quant=True, widths=(16, 32)):
    model = AutoencoderKL(
        sample_size=2 * SIDE,
        latent_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    )
    return lively(model, seed)


def tiny_vae(seed):
    """TAESD's: no distribution, and latents that are not scaled."""
    model = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 2),
        num_decoder_blocks=(2, 1),
    )
    return lively(model, seed)


def deep_compression_vae(seed):
    """Sana's autoencoder: no distribution, and 32 times smaller in full size; 2 times here."""
    model = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(16, 32),
        decoder_block_out_channels=(16, 32),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        attention_head_dim=8,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return lively(model, seed)


def sd3_transformer(seed):
    model = SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=SIDE,
    )
    return lively(model, seed)


def flux_transformer(seed):
    """Latents packed two by two: 16 channels become 64."""
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=False,
    )
    return lively(model, seed)


def pixart_transformer(seed):
    model = PixArtTransformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=WIDTH,
        caption_channels=WIDTH,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return lively(model, seed)


def sana_transformer(seed):
    model = SanaTransformer2DModel(
        sample_size=SIDE,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=WIDTH,
        caption_channels=WIDTH,
        mlp_ratio=2.0,
        guidance_embeds=True,
        guidance_embeds_scale=0.1,
        qk_norm="rms_norm_across_heads",
        timestep_scale=1.0,
    )
    return lively(model, seed)
