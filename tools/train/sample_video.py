"""Films prompts with the video demo through diffusers: a look at progress.

Writes OUTPUT/00/0000.png, ... for the first prompt and so on; --sheet draws seven frames of every
film, one film a row.
"""

from __future__ import annotations

import numpy as np
from diffusers import HunyuanVideoPipeline
from export_video import COMPONENTS
from PIL import Image
from sampling import load_pipeline, make_parser, sample_prompts

SHEET_FRAMES = 7


def main() -> None:
    parser = make_parser(
        __doc__,
        what="films",
        side=128,
        output="folder for folders of frames",
        sheet="also write some frames of all films into this file",
    )
    parser.add_argument("--frames", type=int, default=33)
    args = parser.parse_args()
    pipe = load_pipeline(HunyuanVideoPipeline, args, COMPONENTS)
    rows = []
    for index, film in sample_prompts(pipe, args, num_frames=args.frames, max_sequence_length=32):
        folder = args.output / f"{index:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(film):
            Image.fromarray(frame).save(folder / f"{number:04d}.png")
        shown = np.linspace(0, len(film) - 1, SHEET_FRAMES).round().astype(int)
        rows.append(np.concatenate(list(film[shown]), axis=1))
        if args.sheet:
            Image.fromarray(np.concatenate(rows)).save(args.sheet)


if __name__ == "__main__":
    main()
