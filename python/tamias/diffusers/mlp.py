"""MLPs of diffusers' blocks as Tamias takes them: which modules they are made of, and their weights.

Served are plain linear layers: what wraps one (LoRA), quantises it, keeps it on another device or listens to
it has more to say than its weight does, and such an MLP runs by its own module.
"""

from __future__ import annotations

import torch
from diffusers.models import activations
from torch import nn

from tamias import MlpWeights


def _is_plain(linear: nn.Module, like: torch.Tensor) -> bool:
    """Whether it is served where activations are like this tensor."""
    return (
        type(linear) is nn.Linear
        and linear.weight.dtype == like.dtype
        and linear.weight.device == like.device
        and not linear._forward_hooks
        and not linear._forward_pre_hooks
    )


def _detached(parameter: nn.Parameter | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.detach()


def _activation(module: nn.Module) -> tuple[str, bool] | None:
    """The activation's name and whether it is gated; None: not served."""
    if isinstance(module, (activations.GELU, nn.GELU)):
        return ("gelu_tanh" if module.approximate == "tanh" else "gelu"), False
    if isinstance(module, activations.GEGLU):
        return "gelu", True
    if isinstance(module, activations.SwiGLU):
        return "silu", True
    if isinstance(module, activations.ApproximateGELU):
        return "quick_gelu", False
    return None


class Mlp:
    """An MLP with linear layers fc1 [F or 2F, d] and fc2, of whose columns [d, F] the last F count."""

    # Whether its tokens are those of text and image, in a single-stream block.
    is_joint: bool

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._kept: tuple[nn.Module, ...] = ()
        self.weights: MlpWeights | None = None

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """fc1, what holds the activation, fc2: as the block has them now."""
        raise NotImplementedError

    def prepare(self, like: torch.Tensor) -> None:
        """Takes the weights as they are now, for activations like this tensor; `weights` is None where the MLP is
        left to its own module."""
        self._kept = self.modules()
        fc1, activation_module, fc2 = self._kept
        activation = _activation(activation_module)
        if activation is None or not _is_plain(fc1, like) or not _is_plain(fc2, like):
            self.weights = None
            return
        name, is_gated = activation
        neurons = fc1.out_features // (2 if is_gated else 1)
        self.neurons, self.is_gated = neurons, is_gated
        self.weights = MlpWeights(
            _detached(fc1.weight),
            _detached(fc2.weight)[:, fc2.in_features - neurons :],
            _detached(fc1.bias),
            _detached(fc2.bias),
            activation=name,
            gated=is_gated,
            gate_first=False,  # as GEGLU and SwiGLU have it: value, then gate
        )

    def forget(self) -> None:
        """Leaves the MLP to its own module until it is prepared again."""
        self._kept, self.weights = (), None

    def is_as_wide_as(self, other: Mlp) -> bool:
        return (self.neurons, self.is_gated) == (other.neurons, other.is_gated)

    def is_served(self) -> bool:
        """Whether there are `weights`, and still those of the block: a LoRA may come in the middle of a
        generation."""
        return self.weights is not None and all(a is b for a, b in zip(self._kept, self.modules()))


class FeedForwardMlp(Mlp):
    """The FeedForward `name` of a block: net[0] is projection and activation, net[2] the other projection."""

    is_joint = False

    def __init__(self, block: nn.Module, name: str) -> None:
        super().__init__(block)
        self._name = name

    @property
    def module(self) -> nn.Module:
        return getattr(self._block, self._name)

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        net = self.module.net
        return net[0].proj, net[0], net[2]


class SingleBlockMlp(Mlp):
    """The MLP of a single-stream block: proj_mlp, act_mlp, and proj_out over attention's output beside the
    neurons."""

    is_joint = True

    def modules(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self._block.proj_mlp, self._block.act_mlp, self._block.proj_out
