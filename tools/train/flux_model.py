"""The demo model's networks, and what training needs around diffusers' own classes.

The classes are diffusers' and transformers' own; only while training, the attention processor is
replaced by one that takes rotary angles per sample, so that each sample of a batch can be another
window of the picture (`use_window_positions`). The weights and the exported folder do not change.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FluxTransformer2DModel
from model_parts import CLIP_TOKENS, AttentionProcessor, GivenGeometry, attend, axis_angles
from model_parts import build_clip, project, rotate, tokenize
from transformers import CLIPTextModel, PreTrainedTokenizerBase, T5Config, T5EncoderModel

TEXT_TOKENS = 36  # the longest caption has 35 T5 tokens
LATENT_PER_TOKEN = 2  # a token is 2 x 2 latent pixels: 8 x 8 picture pixels with an f4 VAE
AXES_DIMS_ROPE = (8, 28, 28)
ROPE_THETA = 10000.0


def build_vae() -> AutoencoderKL:
    """AutoencoderKL, 4 x 4 pixels to 8 latent channels, 0.78 M parameters."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=512,
    )


def build_transformer() -> FluxTransformer2DModel:
    """The FLUX transformer: 2 double and 6 single blocks of width 256, 11.1 M parameters."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=32,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=128,
        pooled_projection_dim=128,
        guidance_embeds=False,
        axes_dims_rope=AXES_DIMS_ROPE,
    )


def build_t5(vocab_size: int) -> T5EncoderModel:
    """The text encoder that the transformer attends to."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


class DemoFlux(torch.nn.Module):
    """Transformer and both text encoders, trained together: captions and noise to velocity."""

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        t5: T5EncoderModel,
        clip: CLIPTextModel,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.t5 = t5
        self.clip = clip

    @staticmethod
    def from_nothing(clip_vocab_size: int, t5_vocab_size: int) -> DemoFlux:
        """Fresh weights from torch's seed."""
        return DemoFlux(
            build_transformer(), build_t5(t5_vocab_size), build_clip(clip_vocab_size)
        )

    @staticmethod
    def from_folder(folder: Path) -> DemoFlux:
        """The weights of a diffusers folder, in fp32."""
        options = {"torch_dtype": torch.float32}
        return DemoFlux(
            FluxTransformer2DModel.from_pretrained(folder / "transformer", **options),
            T5EncoderModel.from_pretrained(folder / "text_encoder_2", **options),
            CLIPTextModel.from_pretrained(folder / "text_encoder", **options),
        )

    def forward(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        geometry: Geometry,
        clip_ids: torch.Tensor,
        t5_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Velocity [batch, tokens, 32] of noisy tokens at `timestep` in 0..1."""
        self.transformer.pos_embed.geometry = geometry
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=self.t5(input_ids=t5_ids).last_hidden_state,
            pooled_projections=self.clip(input_ids=clip_ids).pooler_output,
            timestep=timestep,
            img_ids=noisy.new_zeros(0, 3),
            txt_ids=noisy.new_zeros(0, 3),
        ).sample


class TokenizerPair:
    """Both tokenizers, padding as FluxPipeline does."""

    def __init__(self, clip: PreTrainedTokenizerBase, t5: PreTrainedTokenizerBase) -> None:
        self.clip = clip
        self.t5 = t5

    def __call__(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids for CLIP [batch, 77] and for T5 [batch, 36]."""
        clip = tokenize(self.clip, captions, CLIP_TOKENS).input_ids
        return clip, tokenize(self.t5, captions, TEXT_TOKENS).input_ids


# ---- tokens and positions


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[batch, 8, height, width] latents to [batch, height/2, width/2, 32] tokens, as FLUX does."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, height // 2, width // 2, 4 * channels)


class Geometry(NamedTuple):
    """Where the tokens of a batch stand: cosine and sine from `rotary_angles`, and key_bias.

    key_bias [text + tokens] is added to the attention scores of each key: the logarithm of how many
    tokens of the whole picture the key stands for. Without it a window of 640 tokens would leave
    the text a six times larger share of the attention than the whole picture of 4,096 does.
    """

    cosine: torch.Tensor
    sine: torch.Tensor
    key_bias: torch.Tensor | None


def rotary_angles(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [batch, text + tokens, 1, 32] for picture positions [batch, tokens, 2].

    Text tokens stand at the origin. FLUX's axes: 8 channels for an index that is always 0, 28 for
    rows, 28 for columns.
    """
    batch = positions.shape[0]
    places = torch.cat([positions.new_zeros(batch, TEXT_TOKENS, 2), positions], dim=1)
    return axis_angles(F.pad(places.double(), (1, 0)), AXES_DIMS_ROPE, ROPE_THETA)


class WindowAttention(AttentionProcessor):
    """FLUX's attention with rotary angles per sample; computes what FluxAttnProcessor computes."""

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Geometry | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        query, key, value = project(attn, hidden_states)
        if encoder_hidden_states is not None:
            text_query, text_key, text_value = project(attn, encoder_hidden_states, added=True)
            query = torch.cat([text_query, query], dim=1)
            key = torch.cat([text_key, key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        cosine, sine = image_rotary_emb.cosine, image_rotary_emb.sine
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        query, key = query.to(value.dtype), key.to(value.dtype)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        mixed = attend(query, key, value, image_rotary_emb.key_bias)
        mixed = mixed.transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return mixed
        text, picture = mixed.split([TEXT_TOKENS, mixed.shape[1] - TEXT_TOKENS], dim=1)
        return attn.to_out[1](attn.to_out[0](picture)), attn.to_add_out(text)


def use_window_positions(transformer: FluxTransformer2DModel) -> None:
    """Makes a transformer take rotary angles per sample (for training only)."""
    transformer.pos_embed = GivenGeometry()
    transformer.set_attn_processor(WindowAttention())
