"""What weights of 8 bits do to pictures and films: `tamias generate` with --weight-dtype auto and fp8_e4m3, dense and
accelerated, for several prompts; likeness of each pair, and of dense beside accelerated for comparison.

    python bench/weight_types.py --prompts 4 --steps 20
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from generation import DENSE, ROOT, Generator, likeness, read_prompts

FP8 = ["--weight-dtype", "fp8_e4m3"]


def measured(generator: Generator, prompt: str, seed: int, shared: list[str]) -> dict[str, dict[str, float]]:
    """The likenesses of one prompt, by what is compared."""
    options = [*shared, "--prompt", prompt, "--seed", str(seed)]
    dense, sparse = (generator.run([*options, *choice])[1] for choice in (DENSE, []))
    dense_8, sparse_8 = (generator.run([*options, *choice, *FP8])[1] for choice in (DENSE, []))
    return {
        "dense: fp8_e4m3 beside auto": likeness(dense, dense_8),
        "accelerated: fp8_e4m3 beside auto": likeness(sparse, sparse_8),
        "accelerated beside dense, both auto": likeness(dense, sparse),
        "accelerated beside dense, both fp8_e4m3": likeness(dense_8, sparse_8),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tamias", type=Path, default=ROOT / "build/release/tamias")
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-flux")
    parser.add_argument("--prompt-file", type=Path, default=ROOT / "tools/quality/prompts.txt")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    shared = ["--steps", str(args.steps), "--dtype", args.dtype, "--device", args.device]
    with tempfile.TemporaryDirectory() as folder:
        generator = Generator(args.tamias, args.model, Path(folder))
        prompts = read_prompts(args.prompt_file, args.prompts)
        results = [measured(generator, prompt, seed, shared) for seed, prompt in enumerate(prompts)]
    print("| | PSNR: mean, least, dB | SSIM: mean, least |\n| --- | ---: | ---: |")
    for name in results[0]:
        decibels = [result[name]["psnr"] for result in results]
        similar = [result[name]["ssim"] for result in results]
        print(
            f"| {name} | {statistics.mean(decibels):.1f}, {min(decibels):.1f} | "
            f"{statistics.mean(similar):.4f}, {min(similar):.4f} |"
        )


if __name__ == "__main__":
    main()
