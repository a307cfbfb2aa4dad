"""Checkpoint folders with random weights, to measure what does not depend on them.

Transformers and decoders have the geometry asked for and random numbers, and only what a generation reads of them
is written; text encoders, tokenizers, schedulers and, where their sizes fit, VAEs are the small ones of this
repository, so nothing else has to be written or loaded. Needs no package.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO_FLUX = ROOT / "models/demo-flux"
DEMO_VIDEO = ROOT / "models/demo-video"
TINY_WAN = ROOT / "tests/data/pipeline/tiny-wan"
WEIGHTS = "diffusion_pytorch_model.safetensors"


class Tensors(dict[str, list[int]]):
    """Name and shape of every tensor, in diffusers' names."""

    def add(self, name: str, outputs: int, *inputs: int) -> None:
        """A layer's weight [outputs, *inputs] and bias."""
        self[f"{name}.weight"], self[f"{name}.bias"] = [outputs, *inputs], [outputs]

    def embedder(self, name: str, inputs: int, width: int) -> None:
        self.add(f"{name}.linear_1", width, inputs)
        self.add(f"{name}.linear_2", width, width)

    def scales(self, prefix: str, width: int, names: tuple[str, ...] = ("norm_q", "norm_k")) -> None:
        for name in names:
            self[f"{prefix}.{name}.weight"] = [width]

    def bytes(self) -> int:
        return 2 * sum(map(prod, self.values()))


@dataclass(frozen=True)
class Component:
    """A folder of a checkpoint: config.json and a file of random bf16 weights."""

    config: dict
    tensors: Tensors


@dataclass(frozen=True)
class Model:
    random: dict[str, Component]
    links: dict[str, Path]  # what is another model's

    def bytes(self) -> int:
        return sum(component.tensors.bytes() for component in self.random.values())


def links_of(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / name for name in names}


def config_in(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def rotary_axes(head_dim: int) -> list[int]:
    """Of 128: 16 for time, 56 and 56."""
    side = 7 * head_dim // 16
    return [head_dim - 2 * side, side, side]


@dataclass(frozen=True)
class JointGeometry:
    """Of a FluxTransformer2DModel or a HunyuanVideoTransformer3DModel; head_dim 64 or 128."""

    double_blocks: int
    single_blocks: int
    heads: int
    head_dim: int
    refiner_blocks: int = 2  # HunyuanVideo's, of the text


FLUX_1_DEV = JointGeometry(double_blocks=19, single_blocks=38, heads=24, head_dim=128)
HUNYUAN_VIDEO = JointGeometry(double_blocks=20, single_blocks=40, heads=24, head_dim=128)


def joint_blocks(tensors: Tensors, config: dict) -> None:
    """The blocks of FLUX.1, which are HunyuanVideo's, too."""
    head = config["attention_head_dim"]
    d = config["num_attention_heads"] * head
    for i in range(config["num_layers"]):
        block = f"transformer_blocks.{i}"
        for stream in ("norm1", "norm1_context"):
            tensors.add(f"{block}.{stream}.linear", 6 * d, d)
        for name in (
            "to_q",
            "to_k",
            "to_v",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_out.0",
            "to_add_out",
        ):
            tensors.add(f"{block}.attn.{name}", d, d)
        tensors.scales(f"{block}.attn", head, ("norm_q", "norm_k", "norm_added_q", "norm_added_k"))
        for stream in ("ff", "ff_context"):
            tensors.add(f"{block}.{stream}.net.0.proj", 4 * d, d)
            tensors.add(f"{block}.{stream}.net.2", d, 4 * d)
    for i in range(config["num_single_layers"]):
        block = f"single_transformer_blocks.{i}"
        tensors.add(f"{block}.norm.linear", 3 * d, d)
        tensors.add(f"{block}.proj_mlp", 4 * d, d)
        tensors.add(f"{block}.proj_out", d, 5 * d)
        for name in ("to_q", "to_k", "to_v"):
            tensors.add(f"{block}.attn.{name}", d, d)
        tensors.scales(f"{block}.attn", head)
    tensors.add("norm_out.linear", 2 * d, d)


def flux_transformer(geometry: JointGeometry) -> Component:
    config = config_in(DEMO_FLUX / "transformer") | {
        "attention_head_dim": geometry.head_dim,
        "axes_dims_rope": rotary_axes(geometry.head_dim),
        "guidance_embeds": True,
        "num_attention_heads": geometry.heads,
        "num_layers": geometry.double_blocks,
        "num_single_layers": geometry.single_blocks,
    }
    tensors = Tensors()
    d = geometry.heads * geometry.head_dim
    tensors.add("x_embedder", d, config["in_channels"])
    tensors.add("context_embedder", d, config["joint_attention_dim"])
    for name, inputs in {"timestep": 256, "guidance": 256, "text": config["pooled_projection_dim"]}.items():
        tensors.embedder(f"time_text_embed.{name}_embedder", inputs, d)
    joint_blocks(tensors, config)
    tensors.add("proj_out", config["out_channels"] or config["in_channels"], d)
    return Component(config, tensors)


def flux(geometry: JointGeometry) -> Model:
    names = (
        "model_index.json",
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "vae",
    )
    return Model({"transformer": flux_transformer(geometry)}, links_of(DEMO_FLUX, *names))


def hunyuan_video_transformer(geometry: JointGeometry) -> Component:
    config = config_in(DEMO_VIDEO / "transformer") | {
        "attention_head_dim": geometry.head_dim,
        "guidance_embeds": True,
        "num_attention_heads": geometry.heads,
        "num_layers": geometry.double_blocks,
        "num_refiner_layers": geometry.refiner_blocks,
        "num_single_layers": geometry.single_blocks,
        "patch_size": 2,
        "rope_axes_dim": rotary_axes(geometry.head_dim),
    }
    tensors = Tensors()
    d, text = geometry.heads * geometry.head_dim, config["text_embed_dim"]
    tensors.add("x_embedder.proj", d, config["in_channels"], 1, 2, 2)
    tensors.embedder("context_embedder.time_text_embed.timestep_embedder", 256, d)
    tensors.embedder("context_embedder.time_text_embed.text_embedder", text, d)
    tensors.add("context_embedder.proj_in", d, text)
    for i in range(geometry.refiner_blocks):
        block = f"context_embedder.token_refiner.refiner_blocks.{i}"
        for name in ("norm1", "norm2"):
            tensors.add(f"{block}.{name}", d)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            tensors.add(f"{block}.attn.{name}", d, d)
        tensors.add(f"{block}.ff.net.0.proj", 4 * d, d)
        tensors.add(f"{block}.ff.net.2", d, 4 * d)
        tensors.add(f"{block}.norm_out.linear", 2 * d, d)
    for name, inputs in {"timestep": 256, "guidance": 256, "text": config["pooled_projection_dim"]}.items():
        tensors.embedder(f"time_text_embed.{name}_embedder", inputs, d)
    joint_blocks(tensors, config)
    tensors.add("proj_out", 4 * config["out_channels"], d)
    return Component(config, tensors)


@dataclass(frozen=True)
class HunyuanVideoDecoder:
    """Of an AutoencoderKLHunyuanVideo."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    groups: int = 32
    layers: int = 2
    has_attention: bool = True


def hunyuan_video_vae(decoder: HunyuanVideoDecoder) -> Component:
    config = config_in(DEMO_VIDEO / "vae") | {
        "block_out_channels": list(decoder.channels),
        "layers_per_block": decoder.layers,
        "mid_block_add_attention": decoder.has_attention,
        "norm_num_groups": decoder.groups,
    }
    tensors = Tensors()

    def block(name: str, inputs: int, outputs: int) -> None:
        tensors.add(f"{name}.norm1", inputs)
        tensors.add(f"{name}.conv1.conv", outputs, inputs, 3, 3, 3)
        tensors.add(f"{name}.norm2", outputs)
        tensors.add(f"{name}.conv2.conv", outputs, outputs, 3, 3, 3)
        if inputs != outputs:
            tensors.add(f"{name}.conv_shortcut.conv", outputs, inputs, 1, 1, 1)

    latent, inputs = config["latent_channels"], decoder.channels[-1]
    tensors.add("post_quant_conv", latent, latent, 1, 1, 1)
    tensors.add("decoder.conv_in.conv", inputs, latent, 3, 3, 3)
    for i in range(2):
        block(f"decoder.mid_block.resnets.{i}", inputs, inputs)
    if decoder.has_attention:
        tensors.add("decoder.mid_block.attentions.0.group_norm", inputs)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            tensors.add(f"decoder.mid_block.attentions.0.{name}", inputs, inputs)
    for i, outputs in enumerate(reversed(decoder.channels)):
        for layer in range(decoder.layers + 1):
            block(f"decoder.up_blocks.{i}.resnets.{layer}", outputs if layer else inputs, outputs)
        if i + 1 < len(decoder.channels):
            tensors.add(f"decoder.up_blocks.{i}.upsamplers.0.conv.conv", outputs, outputs, 3, 3, 3)
        inputs = outputs
    tensors.add("decoder.conv_norm_out", inputs)
    tensors.add("decoder.conv_out.conv", 3, inputs, 3, 3, 3)
    return Component(config, tensors)


def hunyuan_video(geometry: JointGeometry, decoder: HunyuanVideoDecoder | None = None) -> Model:
    """Without a decoder that of the demo's VAE, which has the published one's 16 channels of 8 x 8 pixels."""
    names = ("model_index.json", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    random = {"transformer": hunyuan_video_transformer(geometry)}
    if decoder is None:
        return Model(random, links_of(DEMO_VIDEO, *names, "vae"))
    return Model(random | {"vae": hunyuan_video_vae(decoder)}, links_of(DEMO_VIDEO, *names))


@dataclass(frozen=True)
class WanGeometry:
    """Of a WanTransformer3DModel; head_dim 64 or 128."""

    blocks: int
    heads: int
    head_dim: int
    mlp: int


@dataclass(frozen=True)
class WanDecoder:
    """Of an AutoencoderKLWan."""

    base: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    layers: int = 2


WAN_14B = WanGeometry(blocks=40, heads=40, head_dim=128, mlp=13824)
WAN_CHANNELS = 16  # of the latents


def wan_transformer(geometry: WanGeometry) -> Component:
    config = config_in(TINY_WAN / "transformer") | {
        "attention_head_dim": geometry.head_dim,
        "ffn_dim": geometry.mlp,
        "freq_dim": 256,
        "in_channels": WAN_CHANNELS,
        "num_attention_heads": geometry.heads,
        "num_layers": geometry.blocks,
        "out_channels": WAN_CHANNELS,
    }
    tensors = Tensors()
    d = geometry.heads * geometry.head_dim
    tensors["scale_shift_table"] = [1, 2, d]
    tensors.add("patch_embedding", d, WAN_CHANNELS, 1, 2, 2)
    tensors.embedder("condition_embedder.time_embedder", config["freq_dim"], d)
    tensors.embedder("condition_embedder.text_embedder", config["text_dim"], d)
    tensors.add("condition_embedder.time_proj", 6 * d, d)
    for i in range(geometry.blocks):
        block = f"blocks.{i}"
        tensors[f"{block}.scale_shift_table"] = [1, 6, d]
        for attention in ("attn1", "attn2"):
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                tensors.add(f"{block}.{attention}.{name}", d, d)
            tensors.scales(f"{block}.{attention}", d)
        tensors.add(f"{block}.norm2", d)
        tensors.add(f"{block}.ffn.net.0.proj", geometry.mlp, d)
        tensors.add(f"{block}.ffn.net.2", d, geometry.mlp)
    tensors.add("proj_out", 4 * WAN_CHANNELS, d)
    return Component(config, tensors)


def wan_vae(decoder: WanDecoder) -> Component:
    config = config_in(TINY_WAN / "vae") | {
        "base_dim": decoder.base,
        "dim_mult": list(decoder.multipliers),
        "latents_mean": [0.0] * WAN_CHANNELS,
        "latents_std": [1.0] * WAN_CHANNELS,
        "num_res_blocks": decoder.layers,
        "z_dim": WAN_CHANNELS,
    }
    tensors = Tensors()

    def block(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.norm1.gamma"] = [inputs, 1, 1, 1]
        tensors.add(f"{name}.conv1", outputs, inputs, 3, 3, 3)
        tensors[f"{name}.norm2.gamma"] = [outputs, 1, 1, 1]
        tensors.add(f"{name}.conv2", outputs, outputs, 3, 3, 3)
        if inputs != outputs:
            tensors.add(f"{name}.conv_shortcut", outputs, inputs, 1, 1, 1)

    widths = [decoder.base * multiplier for multiplier in reversed(decoder.multipliers)]
    inputs = widths[0]
    tensors.add("post_quant_conv", WAN_CHANNELS, WAN_CHANNELS, 1, 1, 1)
    tensors.add("decoder.conv_in", inputs, WAN_CHANNELS, 3, 3, 3)
    for i in range(2):
        block(f"decoder.mid_block.resnets.{i}", inputs, inputs)
    tensors["decoder.mid_block.attentions.0.norm.gamma"] = [inputs, 1, 1]
    tensors.add("decoder.mid_block.attentions.0.to_qkv", 3 * inputs, inputs, 1, 1)
    tensors.add("decoder.mid_block.attentions.0.proj", inputs, inputs, 1, 1)
    in_time = [*reversed(config["temperal_downsample"]), None]
    for i, (outputs, doubles_frames) in enumerate(zip(widths, in_time)):
        for layer in range(decoder.layers + 1):
            block(f"decoder.up_blocks.{i}.resnets.{layer}", outputs if layer else inputs, outputs)
        inputs = outputs
        if doubles_frames is not None:  # not the last: a level that enlarges halves its channels
            inputs = outputs // 2
            tensors.add(f"decoder.up_blocks.{i}.upsamplers.0.resample.1", inputs, outputs, 3, 3)
        if doubles_frames:
            tensors.add(f"decoder.up_blocks.{i}.upsamplers.0.time_conv", 2 * outputs, outputs, 3, 1, 1)
    tensors["decoder.norm_out.gamma"] = [inputs, 1, 1, 1]
    tensors.add("decoder.conv_out", 3, inputs, 3, 3, 3)
    return Component(config, tensors)


def wan(geometry: WanGeometry, decoder: WanDecoder) -> Model:
    links = links_of(TINY_WAN, "model_index.json", "scheduler", "text_encoder")
    links["tokenizer"] = DEMO_FLUX / "tokenizer_2"
    return Model({"transformer": wan_transformer(geometry), "vae": wan_vae(decoder)}, links)


def random_bf16(count: int) -> bytes:
    """Numbers of either sign with magnitudes from 2^-6 to 2^-5: the size of a trained model's weights."""
    exponent = 127 - 6
    low = bytes((exponent & 1) << 7 | byte & 0x7F for byte in range(256))  # its last bit, mantissa
    high = bytes(byte & 0x80 | exponent >> 1 for byte in range(256))  # sign, its other bits
    numbers = bytearray(2 * count)
    numbers[0::2] = os.urandom(count).translate(low)
    numbers[1::2] = os.urandom(count).translate(high)
    return bytes(numbers)


ONE = (0x3F80).to_bytes(2, "little")  # in bf16
SCALES_OF_HEADS = tuple(f".{name}.weight" for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"))
# Repeated: to draw 14 billion numbers would take minutes. Odd, so that no two rows of a matrix are alike.
BLOCK_NUMBERS = (1 << 24) + 1


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    while len(data) > 0:
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count


def write_tensors(path: Path, tensors: dict[str, list[int]]) -> None:
    """A safetensors file of random bf16 numbers, written by all CPUs; ones where queries and keys are scaled."""
    header, ones, end = {}, [], 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        if name.endswith(SCALES_OF_HEADS):
            ones.append((begin, end))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = memoryview(random_bf16(min(end // 2, BLOCK_NUMBERS)))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + end)
        file.flush()

        def fill(offset: int) -> None:
            write_all(file.fileno(), block[: end - offset], start + offset)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(fill, range(0, end, len(block))))
        for begin, stop in ones:
            write_all(file.fileno(), ONE * ((stop - begin) // 2), start + begin)


def make(folder: Path, model: Model) -> None:
    """Fills an empty folder."""
    for name, target in model.links.items():
        (folder / name).symlink_to(target)
    for name, component in model.random.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(component.config, indent=2) + "\n")
        write_tensors(folder / name / WEIGHTS, component.tensors)
