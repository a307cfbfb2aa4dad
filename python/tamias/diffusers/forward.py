"""One forward of an accelerated transformer: what answers its blocks, their attention and their MLPs.

Symbols: B batch, H heads, L text tokens, N image tokens, S = L + N, D head dimension, d model width, C
numbers of a prediction for each image token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch.nn import functional

from tamias import SparseSession, UnsupportedError
from tamias.diffusers.families import BlockFamily, bind
from tamias.diffusers.generation import Inputs, Invocation, Item, Output
from tamias.diffusers.interception import AttentionProducts, Product
from tamias.diffusers.token_layout import TokenLayout, in_order

if TYPE_CHECKING:
    from tamias.diffusers.acceleration import AcceleratedTransformer

# Of activations, and what a session calls them.
DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Forward:
    """Made when the transformer is called, and asked by its modules until it returns.

    A BlockFamily's arguments say what its text is; of others the first attention product shows it, and their
    state is made there.
    """

    def __init__(
        self,
        owner: AcceleratedTransformer,
        invocation: Invocation,
        step: int,
        inputs: Inputs,
        arguments: dict[str, Any],
    ) -> None:
        self._owner = owner
        self._family = owner.family
        self._layers = owner.layers
        self._invocation = invocation
        self._step = step
        self._inputs = inputs
        self._arguments = arguments
        self._dtype = inputs.latents[0].dtype
        self._grid = self._family.grid(owner.transformer, arguments)
        time, height, width = self._grid
        self._image_tokens = time * height * width
        # What is added between blocks is in the model's order; tokens are then reordered in attention alone.
        self._reorders_blocks = isinstance(self._family, BlockFamily) and not any(
            arguments.get(name) is not None for name in self._family.residuals
        )
        # Per-token arguments of blocks in the session's order, by the id of what the model gave.
        self._reordered: dict[int, tuple[Any, Any]] = {}
        # Outputs of MLPs of single-stream blocks on their way through the block, by layer.
        self._single_outputs: dict[int, torch.Tensor] = {}
        self._skips_blocks = False
        # "full", "sparse" or "skip".
        self.kind = "full"
        if isinstance(self._family, BlockFamily) and not invocation.items:
            config = owner.transformer.config
            text_tokens, rows = self._family.text_rows(arguments)
            texts = [(text_tokens if r is None else len(r), r) for r in rows]
            self._make_items(texts, config.num_attention_heads, config.attention_head_dim)
        if invocation.items:
            self._begin()

    # State.

    def _make_items(
        self, texts: list[tuple[int, torch.Tensor | None]], num_heads: int, head_dim: int
    ) -> None:
        """texts: of each item of the batch the tokens without padding, and their rows (None: all)."""
        mlps = [layer.mlp for layer in self._layers if layer.mlp is not None and layer.mlp.is_served()]
        first = mlps[0] if mlps else None
        for text_tokens, rows in texts:
            session = SparseSession(
                self._owner.config,
                grid=self._grid,
                num_layers=len(self._layers),
                num_heads=num_heads,
                head_dim=head_dim,
                model_dim=num_heads * head_dim,
                text_tokens=text_tokens,
                mlp_dim=first.neurons if first else 1,
                gated_mlp=first.is_gated if first else False,
                # A session has one width of MLPs: others are left to their own modules.
                mlp_tokens=[
                    (text_tokens if layer.mlp.is_joint else 0) + self._image_tokens
                    if layer.mlp in mlps and layer.mlp.is_as_wide_as(first)
                    else 0
                    for layer in self._layers
                ],
                prediction_channels=self._channels,
                batch=1,
                dtype=DTYPES[self._dtype],
                threads=self._owner.threads,
            )
            self._invocation.items.append(Item(session, text_tokens, rows))

    def _begin(self) -> None:
        self._items = self._invocation.items
        self.kind = self._invocation.begin(self._step, self._inputs.time)
        self._skips_blocks = self._items[0].session.is_skipped
        order = torch.as_tensor(self._items[0].session.token_order, dtype=torch.int64)
        self._order = self._inverse = None
        if not torch.equal(order, torch.arange(len(order))):
            self._order, self._inverse = order, order.argsort()
        inside = (None, None) if self._reorders_blocks else (self._order, self._inverse)
        self._layout = TokenLayout(self._family.text_is_first, self._image_tokens, *inside)

    @property
    def _channels(self) -> int:
        return self._family.prediction_channels(self._owner.transformer)

    @property
    def _caching(self) -> Any:
        return self._owner.config.step_caching

    @property
    def _keeps_hidden(self) -> bool:
        return self._caching.is_enabled and self._caching.reuse == "hidden"

    @property
    def _keeps_prediction(self) -> bool:
        return self._caching.is_enabled and self._caching.reuse != "hidden"

    # The transformer.

    @property
    def has_nothing_to_reuse(self) -> bool:
        """A skipped step of an invocation that never ran: guidance that begins late."""
        return self._skips_blocks and not self._invocation.has_run

    @property
    def needs_no_model(self) -> bool:
        """A skipped step that reuses the prediction."""
        return self._skips_blocks and self._keeps_prediction

    def reused_prediction(self) -> Any:
        """What the transformer returns where the prediction is reused."""
        output = self._invocation.output
        predictions = []
        for item, shape in zip(self._items, output.shapes):
            packed = torch.empty(1, self._image_tokens, self._channels)
            item.session.cached_prediction(packed)
            predictions.append(packed.reshape(shape).to(output.dtype))
        self._invocation.end()
        sample = predictions if output.is_list else torch.cat(predictions)
        if self._arguments.get("return_dict", True):
            return Transformer2DModelOutput(sample=sample)
        return (sample,)

    def finish(self, result: Any) -> Any:
        """What the transformer returns where this is what its own forward returned."""
        if self._single_outputs:
            layer = min(self._single_outputs)
            raise UnsupportedError(
                f"{self._family.class_name}: layer {layer}: expected a call of proj_out, found none"
            )
        if self._skips_blocks and self._keeps_prediction:
            return self.reused_prediction()
        if not self._skips_blocks:
            if self._keeps_prediction:
                self._store_prediction(result[0])
            self._invocation.has_run = True
        self._invocation.end()
        return result

    def _store_prediction(self, sample: torch.Tensor | list[torch.Tensor]) -> None:
        is_list = isinstance(sample, list)
        predictions = sample if is_list else sample.split(1)
        self._invocation.output = Output([p.shape for p in predictions], predictions[0].dtype, is_list)
        for item, prediction in zip(self._items, predictions):
            packed = prediction.float().reshape(1, self._image_tokens, self._channels)
            item.session.store_prediction(packed)

    # Blocks.

    def block(self, index: int, plain: Any, *args: Any, **kwargs: Any) -> Any:
        bound = bind(self._layers[index].block, args, kwargs)
        arguments = bound.arguments
        is_last = index == len(self._layers) - 1
        if not self._skips_blocks:
            if self._reorders_blocks and self._order is not None:
                self._reorder(arguments, index)
            if index == 0:
                self._measure_change(arguments)
        if self._skips_blocks:
            hidden = arguments["hidden_states"]
            if is_last and self._keeps_hidden:
                hidden = self._reused_hidden(hidden)
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

    def _measure_change(self, arguments: dict[str, Any]) -> None:
        """Blocks are skipped where their input has hardly changed."""
        if not (self._caching.is_enabled and self._caching.threshold > 0):
            return
        modulated = self._family.modulated_input(self._layers[0].block, arguments)
        modulated = modulated.to(self._dtype).contiguous()
        # The items of a batch run together, where one of them has to.
        runs = [item.session.begin_forward(modulated[i : i + 1]) for i, item in enumerate(self._items)]
        if not any(runs):
            self._skips_blocks = True
            self.kind = "skip"

    def _reused_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, N, d] of an earlier step, as `hidden` in type."""
        reused = torch.empty(hidden.shape, dtype=torch.float32)
        for i, item in enumerate(self._items):
            item.session.cached_hidden(reused[i : i + 1])
        return in_order(reused, 1, self._inverse if self._reorders_blocks else None).to(hidden.dtype)

    def _leave(self, result: Any) -> Any:
        """What the last block returns: image tokens in the model's order."""
        place = self._family.result
        hidden = result if place is None else result[place]
        if self._keeps_hidden:
            for i, item in enumerate(self._items):
                item.session.store_hidden(hidden[i : i + 1].float().contiguous())
        if not self._reorders_blocks or self._inverse is None:
            return result
        text = None if place is None else result[1 - place]
        return self._as_returned(in_order(hidden, 1, self._inverse), text)

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
            # Others are no self-attention: a picture prompt's, say.
            if (
                product.query.shape[1:3] != product.key.shape[1:3]
                or product.is_causal
                or product.dropout_p > 0
            ):
                return None
            output = self._attend(index, product, taken)
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

    def _attend(self, index: int, product: Product, first: int) -> torch.Tensor:
        """[B, H, S, D] of items [first, first + B) of the batch."""
        query, key, value = product.query, product.key, product.value
        batch, heads, tokens, head_dim = query.shape
        if not self._invocation.items:
            self._dtype = query.dtype
            self._make_items(self._texts_of(product), heads, head_dim)
            self._begin()
        if query.dtype != self._dtype:
            raise UnsupportedError(
                f"{self._family.class_name}: layer {index}: expected attention in {self._dtype}, as the "
                f"latents, found {query.dtype}: autocast is not served"
            )
        # Laid out as processors join heads again: [B, S, H, D] in memory.
        output = query.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)
        for i in range(batch):
            item = self._items[first + i]
            rows = self._rows_of(product, i)
            given = tokens - self._image_tokens if rows is None else len(rows)
            if given != item.text_tokens:
                raise UnsupportedError(
                    f"{self._family.class_name}: layer {index}: expected {item.text_tokens} text tokens in "
                    f"attention, found {given}"
                )
            own = slice(i, i + 1)
            if self._layout.is_the_sessions(rows, tokens):
                # The tokens of a head side by side: attention takes longer over rows far apart.
                joint = [x[own].contiguous() for x in (query, key, value)]
                item.session.attention(index, *joint, product.scale, out=output[own])
            else:
                joint = [self._layout.to_session(x[own], 2, rows) for x in (query, key, value)]
                result = item.session.attention(index, *joint, product.scale)
                self._layout.from_session(result, 2, rows, output[own])
        return output

    def _texts_of(self, product: Product) -> list[tuple[int, torch.Tensor | None]]:
        batch, _, tokens, _ = product.query.shape
        rows = [self._rows_of(product, i) for i in range(batch)]
        return [(tokens - self._image_tokens if r is None else len(r), r) for r in rows]

    def _rows_of(self, product: Product, index: int) -> torch.Tensor | None:
        """The rows of text that the mask leaves to item `index`; None: all."""
        mask = product.attn_mask
        if mask is None:
            return None
        if mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1:3] != (1, 1):
            raise UnsupportedError(
                f"{self._family.class_name}: attention mask: expected booleans [B, 1, 1, S], found "
                f"{mask.dtype} {list(mask.shape)}"
            )
        keys = mask[index if len(mask) > 1 else 0, 0, 0]
        text, image = TokenLayout(self._family.text_is_first, self._image_tokens).split(keys, 0)
        if not image.all():
            raise UnsupportedError(
                f"{self._family.class_name}: attention mask: expected all image tokens, found some"
            )
        return None if text.all() else text.nonzero().flatten()

    # MLPs.

    def _serves_mlp(self, index: int) -> bool:
        return self._items[0].session.has_sparse_mlp(index) and self._layers[index].mlp.is_served()

    def _run_mlp(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The MLP of layer `index`, [B, M, d] to [B, M, d]; M = N, or S in single-stream blocks."""
        mlp = self._layers[index].mlp
        output = torch.empty(hidden.shape, dtype=hidden.dtype)
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
