"""Paints prompts with a model folder or a training state through diffusers: a look at progress.

One PNG per prompt, or all of them side by side with --sheet.
"""

from __future__ import annotations

import numpy as np
from diffusers import FluxPipeline
from export import COMPONENTS
from PIL import Image
from sampling import load_pipeline, make_parser, sample_prompts


def main() -> None:
    args = make_parser(
        __doc__,
        what="pictures",
        side=512,
        output="folder for PNG files named by line number",
        sheet="also write all pictures side by side into this file",
    ).parse_args()
    pipe = load_pipeline(FluxPipeline, args, COMPONENTS)
    args.output.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index, picture in sample_prompts(pipe, args, max_sequence_length=36):
        pictures.append(picture)
        Image.fromarray(picture).save(args.output / f"{index:02d}.png")
    if args.sheet:
        Image.fromarray(np.concatenate(pictures, axis=1)).save(args.sheet)


if __name__ == "__main__":
    main()
