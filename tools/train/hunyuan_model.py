"""The video demo's networks, and what training needs around diffusers' own classes.

The counterpart of flux_model.py: the same training on windows of tokens, for HunyuanVideo. Its
transformer takes the text after the video and masks padding; while training, both come out of
`VideoGeometry`, which gives every token of every sample its own place and time.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from model_parts import CLIP_TOKENS, AttentionProcessor, GivenGeometry, attend, axis_angles
from model_parts import build_clip, project, rotate, tokenize
from transformers import CLIPTextModel, LlamaConfig, LlamaModel, PreTrainedTokenizerBase

TEXT_TOKENS = 15  # the longest caption has 14 tokens and the end of turn
TEMPLATE_TOKENS = DEFAULT_PROMPT_TEMPLATE["crop_start"]
LAYERS_SKIPPED = 2  # HunyuanVideoPipeline takes the states before the last two layers
LATENT_CHANNELS = 16
ROPE_AXES = (16, 24, 24)  # frames, rows, columns
ROPE_THETA = 256.0
MASKED = -1e4


def build_video_vae() -> AutoencoderKLHunyuanVideo:
    """8 x 8 pixels of 4 frames to 16 latent channels, 2 M parameters."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 16, 32, 64),
        layers_per_block=1,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )


def build_transformer() -> HunyuanVideoTransformer3DModel:
    """2 double and 4 single blocks of width 192, a token for each latent."""
    return HunyuanVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=3,
        attention_head_dim=64,
        num_layers=2,
        num_single_layers=4,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=False,
        text_embed_dim=128,
        pooled_projection_dim=128,
        rope_theta=ROPE_THETA,
        rope_axes_dim=ROPE_AXES,
    )


def build_llama(tokenizer: PreTrainedTokenizerBase) -> LlamaModel:
    """Four layers, of which the pipeline uses two."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2 + LAYERS_SKIPPED,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaModel(config)


class VideoGeometry(NamedTuple):
    """Where the tokens of a batch stand: rotary cosine and sine [batch, tokens, 1, 32], and biases.

    key_bias [batch, 1, 1, tokens + text] is added to the scores of each key: the logarithm of how
    many tokens the key stands for, and MASKED for padding. text_mask [batch, text] is 1 for words.
    """

    cosine: torch.Tensor
    sine: torch.Tensor
    key_bias: torch.Tensor
    text_mask: torch.Tensor


def rotary_angles(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [batch, tokens, 1, 32] for positions [batch, tokens, 3]."""
    return axis_angles(positions, ROPE_AXES, ROPE_THETA)


class DemoHunyuan(torch.nn.Module):
    """Transformer and both text encoders, trained together: captions and noise to velocity."""

    def __init__(
        self, transformer: HunyuanVideoTransformer3DModel, llama: LlamaModel, clip: CLIPTextModel
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.llama = llama
        self.clip = clip

    @staticmethod
    def from_nothing(
        llama_tokenizer: PreTrainedTokenizerBase, clip_tokenizer: PreTrainedTokenizerBase
    ) -> DemoHunyuan:
        """Fresh weights from torch's seed."""
        llama, clip = build_llama(llama_tokenizer), build_clip(len(clip_tokenizer))
        return DemoHunyuan(build_transformer(), llama, clip)

    @staticmethod
    def from_folder(folder: Path) -> DemoHunyuan:
        """The weights of a diffusers folder, in fp32."""
        options = {"torch_dtype": torch.float32}
        return DemoHunyuan(
            HunyuanVideoTransformer3DModel.from_pretrained(folder / "transformer", **options),
            LlamaModel.from_pretrained(folder / "text_encoder", **options),
            CLIPTextModel.from_pretrained(folder / "text_encoder_2", **options),
        )

    def encode(self, llama_ids: torch.Tensor, clip_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Text states [batch, text, 128] and pooled state [batch, 128], as the pipeline has them."""
        states = self.llama(input_ids=llama_ids, output_hidden_states=True, use_cache=False)
        text = states.hidden_states[-(LAYERS_SKIPPED + 1)][:, TEMPLATE_TOKENS:]
        return text, self.clip(input_ids=clip_ids).pooler_output

    def denoise(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        geometry: VideoGeometry,
        text: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        """Velocity [batch, tokens, 16] of noisy tokens at `timestep` in 0..1."""
        self.transformer.rope.geometry = geometry
        velocity = self.transformer(
            hidden_states=noisy.transpose(1, 2)[..., None, None],
            timestep=timestep * 1000,
            encoder_hidden_states=text,
            encoder_attention_mask=geometry.text_mask,
            pooled_projections=pooled,
        ).sample
        return velocity[..., 0, 0].transpose(1, 2)


class VideoTokenizers:
    """Both tokenizers, with the template and the padding of HunyuanVideoPipeline."""

    def __init__(self, llama: PreTrainedTokenizerBase, clip: PreTrainedTokenizerBase) -> None:
        self.llama = llama
        self.clip = clip

    def __call__(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Llama ids [batch, 95 + text], their mask [batch, text], and CLIP ids [batch, 77]."""
        texts = [DEFAULT_PROMPT_TEMPLATE["template"].format(c) for c in captions]
        llama = tokenize(self.llama, texts, TEMPLATE_TOKENS + TEXT_TOKENS)
        clip = tokenize(self.clip, captions, CLIP_TOKENS).input_ids
        return llama.input_ids, llama.attention_mask[:, TEMPLATE_TOKENS:], clip


class WindowAttention(AttentionProcessor):
    """HunyuanVideo's joint attention with a place and time for every token of every sample."""

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: VideoGeometry | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        geometry, tokens = image_rotary_emb, hidden_states.shape[1]

        def joint(video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            return torch.cat([video, text], dim=1).transpose(1, 2)

        single = attn.add_q_proj is None
        query, key, value = project(attn, hidden_states)
        text_query, text_key, text_value = project(attn, encoder_hidden_states, added=not single)
        query = joint(rotate(query, geometry.cosine, geometry.sine), text_query)
        key = joint(rotate(key, geometry.cosine, geometry.sine), text_key)
        value = joint(value, text_value)
        query, key = query.to(value.dtype), key.to(value.dtype)
        mixed = attend(query, key, value, geometry.key_bias)
        video, text = mixed.transpose(1, 2).flatten(2).split([tokens, mixed.shape[2] - tokens], 1)
        if single:
            return video, text
        return attn.to_out[1](attn.to_out[0](video)), attn.to_add_out(text)


def use_window_positions(transformer: HunyuanVideoTransformer3DModel) -> None:
    """Makes a transformer take a place and time for every token (for training only)."""
    transformer.rope = GivenGeometry()
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        block.attn.set_processor(WindowAttention())
