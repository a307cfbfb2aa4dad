#!/usr/bin/env python3
r"""A checkpoint folder of a published model's size without its weights, to plan with: `tamias inspect`.

    python tools/make_empty_checkpoint.py hunyuan-video /tmp/HunyuanVideo
    tamias inspect --model /tmp/HunyuanVideo --width 1280 --height 720 --frames 129

Configurations are those of diffusers' classes, which are the published models'. Each safetensors file has its header
and a hole where the numbers would be: it takes no disk space and reads as zeros. Tokenizers are those of the small
models in this repository, since their size does not matter here. Nothing can be generated with such a folder.

Needs torch, diffusers 0.42, transformers.
"""

import argparse
import json
import shutil
from pathlib import Path

import diffusers
import torch
import transformers

ROOT = Path(__file__).parents[1]
CLIP_TOKENIZER = ROOT / "models/demo-flux/tokenizer"
T5_TOKENIZER = ROOT / "models/demo-flux/tokenizer_2"
LLAMA_TOKENIZER = ROOT / "tests/data/pipeline/tiny-hunyuan-video/tokenizer"

CLIP_L = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
              projection_dim=768, max_position_embeddings=77, hidden_act="quick_gelu", eos_token_id=49407)
CLIP_VIT_H = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
                  projection_dim=1024, image_size=224, patch_size=14, hidden_act="gelu")
LLAMA_8B = dict(vocab_size=128320, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=8, rms_norm_eps=1e-5, rope_theta=500000.0,
                max_position_embeddings=8192)
T5_XXL = dict(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
              feed_forward_proj="gated-gelu", dense_act_fn="gelu_new", is_gated_act=True)
UMT5_XXL = T5_XXL | dict(vocab_size=256384)


def clip():
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_L))


def t5():
    return transformers.T5EncoderModel(transformers.T5Config(**T5_XXL))


def umt5():
    return transformers.UMT5EncoderModel(transformers.UMT5Config(**UMT5_XXL))


def unipc(flow_shift):
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift)


def euler(**options):
    return diffusers.FlowMatchEulerDiscreteScheduler(**options)


# Of each model: its pipeline, the components (the folder's name and what makes it) and the tokenizers.
MODELS = {
    "flux-1-dev": ("FluxPipeline", {
        "transformer": lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True),
        "vae": lambda: diffusers.AutoencoderKL(
            latent_channels=16, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159),
        "text_encoder": clip,
        "text_encoder_2": t5,
        "scheduler": lambda: euler(shift=3.0, use_dynamic_shifting=True),
    }, {"tokenizer": CLIP_TOKENIZER, "tokenizer_2": T5_TOKENIZER}),
    "hunyuan-video": ("HunyuanVideoPipeline", {
        "transformer": lambda: diffusers.HunyuanVideoTransformer3DModel(),
        "vae": lambda: diffusers.AutoencoderKLHunyuanVideo(),
        "text_encoder": lambda: transformers.LlamaModel(transformers.LlamaConfig(**LLAMA_8B)),
        "text_encoder_2": clip,
        "scheduler": lambda: euler(shift=7.0),
    }, {"tokenizer": LLAMA_TOKENIZER, "tokenizer_2": CLIP_TOKENIZER}),
    "wan-2.1": ("WanPipeline", {
        "transformer": lambda: diffusers.WanTransformer3DModel(),
        "vae": lambda: diffusers.AutoencoderKLWan(),
        "text_encoder": umt5,
        "scheduler": lambda: unipc(5.0),
    }, {"tokenizer": T5_TOKENIZER}),
    "wan-2.1-1.3b": ("WanPipeline", {
        "transformer": lambda: diffusers.WanTransformer3DModel(
            num_attention_heads=12, ffn_dim=8960, num_layers=30),
        "vae": lambda: diffusers.AutoencoderKLWan(),
        "text_encoder": umt5,
        "scheduler": lambda: unipc(3.0),
    }, {"tokenizer": T5_TOKENIZER}),
    "wan-2.1-i2v": ("WanImageToVideoPipeline", {
        "transformer": lambda: diffusers.WanTransformer3DModel(
            in_channels=36, image_dim=1280, added_kv_proj_dim=5120),
        "vae": lambda: diffusers.AutoencoderKLWan(),
        "text_encoder": umt5,
        "image_encoder": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP_VIT_H)),
        "image_processor": transformers.CLIPImageProcessor,
        "scheduler": lambda: unipc(3.0),
    }, {"tokenizer": T5_TOKENIZER}),
    "wan-2.2": ("WanPipeline", {
        "transformer": lambda: diffusers.WanTransformer3DModel(),
        "transformer_2": lambda: diffusers.WanTransformer3DModel(),
        "vae": lambda: diffusers.AutoencoderKLWan(),
        "text_encoder": umt5,
        "scheduler": lambda: unipc(12.0),
    }, {"tokenizer": T5_TOKENIZER}),
    "wan-2.2-i2v": ("WanImageToVideoPipeline", {
        "transformer": lambda: diffusers.WanTransformer3DModel(in_channels=36),
        "transformer_2": lambda: diffusers.WanTransformer3DModel(in_channels=36),
        "vae": lambda: diffusers.AutoencoderKLWan(),
        "text_encoder": umt5,
        "scheduler": lambda: unipc(5.0),
    }, {"tokenizer": T5_TOKENIZER}),
    "mochi": ("MochiPipeline", {
        "transformer": lambda: diffusers.MochiTransformer3DModel(),
        "vae": lambda: diffusers.AutoencoderKLMochi(out_channels=3),
        "text_encoder": t5,
        "scheduler": lambda: euler(invert_sigmas=True),
    }, {"tokenizer": T5_TOKENIZER}),
}

# Fields of model_index.json beside the components.
FIELDS = {"wan-2.2": {"boundary_ratio": 0.875}, "wan-2.2-i2v": {"boundary_ratio": 0.9}}


def write_header(path: Path, model: torch.nn.Module) -> int:
    """A bf16 safetensors file of the model's tensors with a hole for the numbers; returns its size."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    header, size = {}, 0
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        end = size + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    return size


def make(family: str, components: dict, fields: dict, folder: Path) -> None:
    index = {"_class_name": family, "_diffusers_version": diffusers.__version__} | fields
    for name, build in components.items():
        with torch.device("cpu" if name == "scheduler" else "meta"):
            component = build()
        component_folder = folder / name
        if isinstance(component, torch.nn.Module):
            component_folder.mkdir(parents=True, exist_ok=True)
            if isinstance(component, diffusers.ModelMixin):
                component.save_config(component_folder)
                size = write_header(component_folder / "diffusion_pytorch_model.safetensors", component)
            else:
                component.config.architectures = [type(component).__name__]
                component.config.save_pretrained(component_folder)
                size = write_header(component_folder / "model.safetensors", component)
            print(f"{name}: {type(component).__name__}, {size / 2**30:.2f} GiB")
        else:
            component.save_pretrained(component_folder)
        library = type(component).__module__.split(".")[0]
        index[name] = [library, type(component).__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    family, components, tokenizers = MODELS[options.model]
    make(family, components, FIELDS.get(options.model, {}), options.folder)
    for name, source in tokenizers.items():
        shutil.copytree(source, options.folder / name, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
