"""One forward of an accelerated transformer of diffusers: what answers its blocks, attention and MLPs.

Symbols: B batch, H heads, L text tokens, N image tokens, S = L + N, D head dimension, d model width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch.nn import functional

from tamias import UnsupportedError
from tamias.denoising.model_call import Mlps, ModelCall
from tamias.denoising.product import Product
from tamias.denoising.token_layout import in_order
from tamias.diffusers.families import BlockFamily, bind
from tamias.diffusers.generation import Inputs, KnownInvocation
from tamias.diffusers.interception import AttentionProducts

if TYPE_CHECKING:
    from tamias.diffusers.acceleration import AcceleratedTransformer


class Forward(ModelCall):
    """A BlockFamily's arguments say what its text is; of others the first attention product shows it."""

    def __init__(
        self,
        owner: AcceleratedTransformer,
        invocation: KnownInvocation,
        step: int,
        inputs: Inputs,
        arguments: dict[str, Any],
    ) -> None:
        self._family = owner.family
        self._layers = owner.layers
        self._arguments = arguments
        is_block_family = isinstance(self._family, BlockFamily)
        super().__init__(
            owner.common,
            invocation,
            step,
            inputs.time,
            self._family.grid(owner.transformer, arguments),
            inputs.latents[0],
            # What is added between blocks is in the model's order.
            reorders_blocks=is_block_family
            and not any(arguments.get(name) is not None for name in self._family.residuals),
        )
        # Per-token arguments of blocks in the session's order, by the id of what the model gave.
        self._reordered: dict[int, tuple[Any, Any]] = {}
        # Outputs of MLPs of single-stream blocks on their way through the block, by layer.
        self._single_outputs: dict[int, torch.Tensor] = {}
        if is_block_family and not invocation.items:
            config = owner.transformer.config
            text_tokens, rows = self._family.text_rows(arguments)
            texts = [(text_tokens if r is None else len(r), r) for r in rows]
            self.make_items(texts, config.num_attention_heads, config.attention_head_dim, self._mlps())
        if invocation.items:
            self.begin()

    def _mlps(self) -> Mlps | None:
        mlps = [layer.mlp for layer in self._layers if layer.mlp is not None and layer.mlp.is_served()]
        if not mlps:
            return None
        # A session has one width of MLPs: others are left to their own modules.
        are_joint = [
            layer.mlp.is_joint if layer.mlp in mlps and layer.mlp.is_as_wide_as(mlps[0]) else None
            for layer in self._layers
        ]
        return Mlps(mlps[0].neurons, mlps[0].is_gated, are_joint)

    # The transformer.

    def returned(self, prediction: torch.Tensor | list[torch.Tensor]) -> Any:
        """What the transformer returns where this is its prediction."""
        if self._arguments.get("return_dict", True):
            return Transformer2DModelOutput(sample=prediction)
        return (prediction,)

    def finish(self, result: Any) -> Any:
        """What the transformer returns where this is what its own forward returned."""
        if self._single_outputs:
            layer = min(self._single_outputs)
            raise UnsupportedError(
                f"{self._family.class_name}: layer {layer}: expected a call of proj_out, found none"
            )
        if self.needs_no_model:
            return self.returned(self.reused_prediction())
        self.end(result[0])
        return result

    # Blocks.

    def block(self, index: int, plain: Any, *args: Any, **kwargs: Any) -> Any:
        bound = bind(self._layers[index].block, args, kwargs)
        arguments = bound.arguments
        is_last = index == len(self._layers) - 1
        if not self._skips_blocks:
            if self._reorders_blocks and self._order is not None:
                self._reorder(arguments, index)
            if index == 0 and self.measures_change:
                self.measure_change(self._family.modulated_input(self._layers[0].block, arguments))
        if self._skips_blocks:
            hidden = arguments["hidden_states"]
            if is_last and self.keeps_hidden:
                hidden = self.in_models_order(self.reused_hidden(hidden), 1)
            return self._as_returned(hidden, arguments.get("encoder_hidden_states"))
        result = plain(*bound.args[1:], **bound.kwargs)
        return self._leave(result) if is_last else result

    def _reorder(self, arguments: dict[str, Any], index: int) -> None:
        """Into the session's order: image tokens before the first block, what all blocks take for each."""
        if index == 0:
            arguments["hidden_states"] = in_order(arguments["hidden_states"], 1, self._order)
        for name in self._family.per_token:
            if name not in arguments:
                continue
            given = arguments[name]
            if id(given) not in self._reordered:
                self._reordered[id(given)] = given, self._family.reorder(given, self._order)
            arguments[name] = self._reordered[id(given)][1]

    def _leave(self, result: Any) -> Any:
        """What the last block returns: image tokens in the model's order."""
        place = self._family.result
        hidden = result if place is None else result[place]
        if self.keeps_hidden:
            self.store_hidden(hidden)
        if not self._reorders_blocks or self._inverse is None:
            return result
        text = None if place is None else result[1 - place]
        return self._as_returned(self.in_models_order(hidden, 1), text)

    def _as_returned(self, hidden: torch.Tensor, text: torch.Tensor | None) -> Any:
        """What a block of this family returns."""
        place = self._family.result
        if place is None:
            return hidden
        return (hidden, text) if place == 0 else (text, hidden)

    # Attention.

    def attention(self, index: int, plain: Any, *args: Any, **kwargs: Any) -> Any:
        taken = 0  # items of the batch: some models call for each, others for all at once

        def answer(product: Product) -> torch.Tensor | None:
            nonlocal taken
            if not product.may_be_self_attention:
                return None
            output = self.attend(index, product, taken)
            taken += len(product.query)
            return output

        with AttentionProducts(answer):
            result = plain(*args, **kwargs)
        if taken == 0 or taken != len(self._items):
            processor = type(getattr(self._layers[index].attention, "processor", None)).__name__
            raise UnsupportedError(
                f"{self._family.class_name}: layer {index}: expected {processor} to call "
                f"scaled_dot_product_attention over all tokens of each item, found {taken} such calls"
            )
        return result

    # MLPs.

    def _serves_mlp(self, index: int) -> bool:
        return self._items[0].session.has_sparse_mlp(index) and self._layers[index].mlp.is_served()

    def _run_mlp(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The MLP of layer `index`, [B, M, d] to [B, M, d]; M = N, or S in single-stream blocks."""
        mlp = self._layers[index].mlp
        output = hidden.new_empty(hidden.shape)
        for i, item in enumerate(self._items):
            own = slice(i, i + 1)
            is_in_order = self._layout.is_the_sessions(item.text_rows, hidden.shape[1])
            if not mlp.is_joint or is_in_order:
                item.session.mlp(index, mlp.weights, hidden[own], out=output[own])
            else:
                joint = self._layout.to_session(hidden[own], 1, item.text_rows)
                result = item.session.mlp(index, mlp.weights, joint)
                self._layout.from_session(result, 1, item.text_rows, output[own])
        return output

    def feed_forward(self, index: int, plain: Any, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._run_mlp(index, hidden) if self._serves_mlp(index) else plain(hidden, *args, **kwargs)

    def single_fc1(self, index: int, plain: Any, hidden: torch.Tensor) -> torch.Tensor:
        """In place of the neurons, what the MLP adds to the output: the block carries it to its proj_out."""
        if not self._serves_mlp(index):
            return plain(hidden)
        output = self._run_mlp(index, hidden)
        self._single_outputs[index] = output
        return output

    def single_activation(self, index: int, plain: Any, neurons: torch.Tensor) -> torch.Tensor:
        return neurons if neurons is self._single_outputs.get(index) else plain(neurons)

    def single_fc2(self, index: int, plain: Any, joined: torch.Tensor) -> torch.Tensor:
        """joined: attention's output beside single_fc1's."""
        output = self._single_outputs.pop(index, None)
        if output is None:
            return plain(joined)
        mlp = self._layers[index].mlp
        fc2 = mlp.modules()[2]
        width = fc2.in_features - mlp.neurons
        return functional.linear(joined[..., :width], fc2.weight[:, :width]).add_(output)
