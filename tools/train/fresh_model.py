"""Writes a model folder with fresh transformer and text encoders: what training from nothing begins
with. The folder has its tokenizers (make_tokenizers.py or make_video_tokenizers.py) and its VAE
(train_vae.py or train_video_vae.py) already.

Sizes and first weights are those of diffusers' and transformers' classes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLHunyuanVideo, DiffusionPipeline, FluxPipeline
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from flux_model import FluxModel
from hunyuan_model import FLOW_SHIFT, LATENT_CHANNELS, HunyuanModel
from text_encoders import LLAMA_LAYERS
from tokens import CLIP_TOKENS
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel
from transformers import PreTrainedTokenizerBase, T5Config, T5EncoderModel

WIDTH = 128  # of the text encoders


def build_clip(tokenizer: PreTrainedTokenizerBase) -> CLIPTextModel:
    """The text encoder whose pooled output modulates every block."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        projection_dim=WIDTH,
    )
    return CLIPTextModel(config)


def build_t5(tokenizer: PreTrainedTokenizerBase) -> T5EncoderModel:
    """The text encoder that the picture model attends to."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
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


def build_llama(tokenizer: PreTrainedTokenizerBase) -> LlamaModel:
    """Four layers, of which the pipeline uses two."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=LLAMA_LAYERS + 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaModel(config)


def build_flux() -> FluxTransformer2DModel:
    """2 double and 6 single blocks of width 256, 11.1 M parameters."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=FluxModel.channels,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=FluxModel.axes,
    )


def build_hunyuan() -> HunyuanVideoTransformer3DModel:
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
        text_embed_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        rope_theta=HunyuanModel.theta,
        rope_axes_dim=HunyuanModel.axes,
    )


def fresh_pipeline(kind: str, folder: Path) -> DiffusionPipeline:
    """The pipeline of "picture" or "film" with the folder's VAE and tokenizers."""
    first, second = (AutoTokenizer.from_pretrained(folder / f"tokenizer{n}") for n in ("", "_2"))
    tokenizers = {"tokenizer": first, "tokenizer_2": second}
    if kind == "picture":
        return FluxPipeline(
            transformer=build_flux(),
            text_encoder=build_clip(first),
            text_encoder_2=build_t5(second),
            vae=AutoencoderKL.from_pretrained(folder / "vae"),
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            **tokenizers,
        )
    return HunyuanVideoPipeline(
        transformer=build_hunyuan(),
        text_encoder=build_llama(first),
        text_encoder_2=build_clip(second),
        vae=AutoencoderKLHunyuanVideo.from_pretrained(folder / "vae"),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
        **tokenizers,
    )


def remove_local_paths(folder: Path) -> None:
    """Configs remember the folder that they came from; a published model should not."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("picture", "film"))
    parser.add_argument("--model", type=Path, required=True, help="folder to complete")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    fresh_pipeline(args.kind, args.model).to(torch.float16).save_pretrained(args.model)
    remove_local_paths(args.model)


if __name__ == "__main__":
    main()
