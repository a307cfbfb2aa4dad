"""Which of PyTorch's attention kernels a GPU takes: measured at the start of a run.

"flash" and "cudnn" without padding; with it "varlen" (flash attention over sequences of their own
lengths) or a mask with "efficient" or "cudnn". "any" leaves the choice to PyTorch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from blocks import HEAD_DIM, attend
from demo_model import DemoModel
from gpu.clock import Clock

TOLERANCE = 0.02  # relative, in bf16, forward and backward
CUDNN_HANDICAP = 0.86  # it is taken only where it is clearly faster


def use_attention(model: DemoModel, name: str) -> None:
    """Has a model take one kind of attention, where it can: the text encoders are in fp32."""
    model.varlen = name == "varlen"
    if model.device.type == "cuda":
        torch.backends.cuda.enable_math_sdp(True)
        torch.backends.cuda.enable_mem_efficient_sdp(name in ("any", "efficient"))
        torch.backends.cuda.enable_flash_sdp(name in ("any", "varlen", "flash"))
        torch.backends.cuda.enable_cudnn_sdp(name == "cudnn")


def rank_attention(
    model: DemoModel, names: Sequence[str], sides: Sequence[int], clock: Clock
) -> list[str]:
    """Those that agree with plain arithmetic at all sides, the fastest at the largest first."""
    if model.device.type != "cuda":
        return ["any"]
    times = {}
    for name in names:
        try:
            use_attention(model, name)
            apart = max(_difference(model, model.tokens(side)) for side in sides)
            spent = _milliseconds(model, model.tokens(max(sides)))
            fine = apart < TOLERANCE
            clock.say(
                f"attention {name}: {spent:.4f} ms a sample, layer and step at {max(sides)} px,"
                f" differs by {apart:.4f}{'' if fine else ': NOT USED'}"
            )
            if fine:
                times[name] = spent / (CUDNN_HANDICAP if name == "cudnn" else 1)
        except Exception as error:
            clock.say(f"attention {name} refused:", repr(error)[:300])
    torch.cuda.empty_cache()
    return [*sorted(times, key=lambda name: times[name]), "any"]


def _inputs(
    model: DemoModel, batch: int, tokens: int
) -> tuple[list[torch.Tensor], torch.Tensor | None, torch.Tensor]:
    """Queries, keys, values and gradients [batch, keys, 4, 64] in bf16, words, and what counts."""
    generator = torch.Generator(model.device).manual_seed(5)
    shape = (batch, tokens + model.text_tokens, 4, HEAD_DIM)
    q, k, v, g = (
        torch.randn(shape, device=model.device, generator=generator).bfloat16() for _ in range(4)
    )
    words = None
    real = torch.ones(shape[:2], dtype=torch.bool, device=model.device)
    if model.text_is_padded:
        words = torch.arange(batch, device=model.device) % 4 * 4 + 1
        real = torch.arange(shape[1], device=model.device) < (words[:, None] + tokens)
    return [q, k, v, g * real[..., None, None]], words, real  # nobody looks at what padding becomes


def _results(
    model: DemoModel, inputs: list[torch.Tensor], words: torch.Tensor | None, exact: bool
) -> list[torch.Tensor]:
    """Attention and its three gradients, as the model does it, or by plain arithmetic."""
    q, k, v = (x.detach().requires_grad_() for x in inputs[:3])
    tokens = q.shape[1] - model.text_tokens
    if exact:
        a, b, c = (x.transpose(1, 2) for x in (q, k, v))
        scores = a @ b.mT * HEAD_DIM**-0.5
        if words is not None:
            counts = torch.arange(q.shape[1], device=q.device) < (words[:, None] + tokens)
            scores = scores.masked_fill(~counts[:, None, None], -1e30)
        out = (torch.softmax(scores, -1) @ c).transpose(1, 2).flatten(2)
    else:
        out = attend(q, k, v, model.keys(words, tokens))
    out.backward(inputs[3].flatten(2))
    return [out.detach().unflatten(2, q.shape[2:]), q.grad, k.grad, v.grad]


def _difference(model: DemoModel, tokens: int) -> float:
    """The largest relative difference of results and gradients from plain arithmetic in fp32."""
    inputs, words, real = _inputs(model, 2, tokens)
    want = _results(model, [x.float() for x in inputs], words, exact=True)
    got = _results(model, inputs, words, exact=False)
    apart = [
        (((a.float() - b) * real[..., None, None]).norm() / b.norm()).item()
        for a, b in zip(got, want)
    ]
    return max(a if math.isfinite(a) else math.inf for a in apart)


def _milliseconds(model: DemoModel, tokens: int, batch: int = 8) -> float:
    """Of one sample forward and backward."""
    inputs, words, _ = _inputs(model, batch, tokens)
    for turn in range(6):
        if turn == 1:
            torch.cuda.synchronize()
            began = time.perf_counter()
        _results(model, inputs, words, exact=False)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / 5 / batch * 1e3
