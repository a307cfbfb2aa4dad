"""A checkpoint folder of FLUX's architecture with random weights, to measure what does not depend on them.

The transformer has the published model's geometry and random numbers; encoders, VAE, tokenizers and scheduler are the
demo model's, so nothing else has to be written or loaded. Needs no package.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "models/demo-flux"
TRANSFORMER = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Geometry:
    """Of a FluxTransformer2DModel; head_dim 64 or 128."""

    double_blocks: int
    single_blocks: int
    heads: int
    head_dim: int


FLUX_1_DEV = Geometry(double_blocks=19, single_blocks=38, heads=24, head_dim=128)


def config_of(geometry: Geometry) -> dict:
    config = json.loads((DEMO / "transformer/config.json").read_text())
    side = 7 * geometry.head_dim // 16  # of 128: 16 for the (unused) time axis, 56 and 56
    return config | {
        "attention_head_dim": geometry.head_dim,
        "axes_dims_rope": [geometry.head_dim - 2 * side, side, side],
        "guidance_embeds": True,
        "num_attention_heads": geometry.heads,
        "num_layers": geometry.double_blocks,
        "num_single_layers": geometry.single_blocks,
    }


def shapes(config: dict) -> dict[str, list[int]]:
    """Of every tensor of the transformer, in diffusers' names."""
    head = config["attention_head_dim"]
    d = config["num_attention_heads"] * head
    found = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = [outputs, inputs], [outputs]

    linear("x_embedder", d, config["in_channels"])
    linear("context_embedder", d, config["joint_attention_dim"])
    embedded = {"timestep": 256, "guidance": 256, "text": config["pooled_projection_dim"]}
    for name, inputs in embedded.items():
        linear(f"time_text_embed.{name}_embedder.linear_1", d, inputs)
        linear(f"time_text_embed.{name}_embedder.linear_2", d, d)
    for i in range(config["num_layers"]):
        block = f"transformer_blocks.{i}"
        for stream in ("norm1", "norm1_context"):
            linear(f"{block}.{stream}.linear", 6 * d, d)
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"):
            linear(f"{block}.attn.{name}", d, d)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            found[f"{block}.attn.{name}.weight"] = [head]
        for stream in ("ff", "ff_context"):
            linear(f"{block}.{stream}.net.0.proj", 4 * d, d)
            linear(f"{block}.{stream}.net.2", d, 4 * d)
    for i in range(config["num_single_layers"]):
        block = f"single_transformer_blocks.{i}"
        linear(f"{block}.norm.linear", 3 * d, d)
        linear(f"{block}.proj_mlp", 4 * d, d)
        linear(f"{block}.proj_out", d, 5 * d)
        for name in ("to_q", "to_k", "to_v"):
            linear(f"{block}.attn.{name}", d, d)
        for name in ("norm_q", "norm_k"):
            found[f"{block}.attn.{name}.weight"] = [head]
    linear("norm_out.linear", 2 * d, d)
    linear("proj_out", config["out_channels"] or config["in_channels"], d)
    return found


def elements(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def size_of(geometry: Geometry) -> int:
    """Bytes of the transformer's weights."""
    return 2 * sum(elements(shape) for shape in shapes(config_of(geometry)).values())


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


def write_transformer(path: Path, tensors: dict[str, list[int]]) -> None:
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * elements(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Repeated: to draw 12 billion numbers would take minutes. Odd, so that no two rows of a matrix are alike.
    block = random_bf16(min(end // 2, (1 << 24) + 1))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            left = 2 * elements(shape)
            if ".norm_" in name:  # the scale of query and key
                file.write(ONE * (left // 2))
                continue
            while left > 0:
                file.write(block[:left])
                left -= min(left, len(block))


def make(folder: Path, geometry: Geometry) -> None:
    """Fills an empty folder."""
    for path in DEMO.iterdir():
        if path.name not in ("transformer", "tamias.json"):
            (folder / path.name).symlink_to(path)
    (folder / "transformer").mkdir()
    config = config_of(geometry)
    (folder / "transformer/config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_transformer(folder / "transformer" / TRANSFORMER, shapes(config))
