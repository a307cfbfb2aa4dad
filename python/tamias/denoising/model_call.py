"""One call of an accelerated transformer: its attention, and what of it a skipped step reuses.

Symbols: B batch, H heads, L text tokens, N image tokens, S = L + N, D head dimension, d model width, C
numbers of a prediction for each image token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tamias import SparseSession, SparsityConfig, UnsupportedError
from tamias.denoising.invocation import Invocation, Item, Output
from tamias.denoising.product import Product
from tamias.denoising.token_layout import TokenLayout, in_order

# Types of activations by the kind of device, and what a session calls them.
DTYPES = {
    "cpu": {torch.float32: "f32", torch.bfloat16: "bf16"},
    "cuda": {torch.float16: "f16", torch.bfloat16: "bf16"},
}

# Rows of the text of an item that are no padding, and how many; None: all.
Text = tuple[int, torch.Tensor | None]


def check_activations(name: str, tensor: torch.Tensor) -> None:
    """Refuses types and devices that no session computes on."""
    served = DTYPES.get(tensor.device.type)
    if served is None:
        raise UnsupportedError(f"{name}: expected tensors on the CPU or a CUDA GPU, found {tensor.device}")
    if tensor.dtype not in served:
        expected = " or ".join(str(dtype) for dtype in served)
        place = "the CPU" if tensor.device.type == "cpu" else "a GPU"
        raise UnsupportedError(f"{name}: expected {expected} on {place}, found {tensor.dtype}")


@dataclass(frozen=True)
class Mlps:
    """The MLPs of a session: their one width and, for each layer, whether its MLP takes text, too, or the image
    alone; None: none is served."""

    neurons: int
    is_gated: bool
    are_joint: Sequence[bool | None]

    def tokens(self, text_tokens: int, image_tokens: int) -> list[int]:
        """Of each layer."""
        return [
            0 if is_joint is None else image_tokens + (text_tokens if is_joint else 0)
            for is_joint in self.are_joint
        ]


@dataclass(frozen=True, eq=False)
class Transformer:
    """What all calls of a transformer have in common. name: in errors; channels: C."""

    name: str
    config: SparsityConfig
    num_layers: int
    channels: int
    text_is_first: bool
    threads: int


class ModelCall:
    """Made when the transformer is called, and asked by its blocks until it returns.

    The state of the batch's items is made by make_items: at once where the arguments of the call say what its
    text is, else by the first attention product.
    reorders_blocks: image tokens lie in the session's order from the first block to the last; else attention
        alone has them so.
    """

    def __init__(
        self,
        transformer: Transformer,
        invocation: Invocation,
        step: int,
        time: float,
        grid: tuple[int, int, int],
        latents: torch.Tensor,
        reorders_blocks: bool = False,
    ) -> None:
        self._transformer = transformer
        self._invocation = invocation
        self._step = step
        self._time = time
        self._grid = grid
        self._image_tokens = grid[0] * grid[1] * grid[2]
        self._dtype = latents.dtype
        self._device = latents.device
        self._reorders_blocks = reorders_blocks
        self._skips_blocks = False
        # "full", "sparse" or "skip".
        self.kind = "full"

    # State.

    def make_items(self, texts: list[Text], num_heads: int, head_dim: int, mlps: Mlps | None = None) -> None:
        """texts: of each item of the batch."""
        mlps = mlps or Mlps(1, False, [None] * self._transformer.num_layers)
        for text_tokens, rows in texts:
            session = SparseSession(
                self._transformer.config,
                grid=self._grid,
                num_layers=self._transformer.num_layers,
                num_heads=num_heads,
                head_dim=head_dim,
                model_dim=num_heads * head_dim,
                text_tokens=text_tokens,
                mlp_dim=mlps.neurons,
                gated_mlp=mlps.is_gated,
                mlp_tokens=mlps.tokens(text_tokens, self._image_tokens),
                prediction_channels=self._transformer.channels,
                batch=1,
                dtype=DTYPES[self._device.type][self._dtype],
                threads=self._transformer.threads,
                device=str(self._device),
            )
            self._invocation.items.append(Item(session, text_tokens, rows))

    def begin(self) -> None:
        """Begins the step; the items are there."""
        self._items = self._invocation.items
        self.kind = self._invocation.begin(self._step, self._time)
        self._skips_blocks = self._items[0].session.is_skipped
        order = torch.as_tensor(self._items[0].session.token_order, dtype=torch.int64)
        self._order = self._inverse = None
        if not torch.equal(order, torch.arange(len(order))):
            self._order, self._inverse = order.to(self._device), order.argsort().to(self._device)
        inside = (None, None) if self._reorders_blocks else (self._order, self._inverse)
        self._layout = TokenLayout(self._transformer.text_is_first, self._image_tokens, *inside)

    # Steps that are skipped.

    @property
    def _caching(self) -> SparsityConfig.StepCaching:
        return self._transformer.config.step_caching

    @property
    def keeps_hidden(self) -> bool:
        return self._caching.is_enabled and self._caching.reuse == "hidden"

    @property
    def keeps_prediction(self) -> bool:
        return self._caching.is_enabled and self._caching.reuse != "hidden"

    @property
    def measures_change(self) -> bool:
        return self._caching.is_enabled and self._caching.threshold > 0

    @property
    def skips_blocks(self) -> bool:
        return self._skips_blocks

    @property
    def has_nothing_to_reuse(self) -> bool:
        """A skipped step of an invocation that never ran: guidance that begins late."""
        return self._skips_blocks and not self._invocation.has_run

    @property
    def needs_no_model(self) -> bool:
        """A skipped step that reuses the prediction."""
        return self._skips_blocks and self.keeps_prediction

    def measure_change(self, modulated: torch.Tensor) -> None:
        """Blocks are skipped where the modulated input of the first one, [B, N, d], has hardly changed."""
        modulated = modulated.to(self._dtype).contiguous()
        # The items of a batch run together, where one of them has to.
        runs = [item.session.begin_forward(modulated[i : i + 1]) for i, item in enumerate(self._items)]
        if not any(runs):
            self._skips_blocks = True
            self.kind = "skip"

    def reused_prediction(self) -> list[torch.Tensor] | torch.Tensor:
        """What stands in for the prediction, and the end of the call."""
        output = self._invocation.output
        predictions = []
        for item, shape in zip(self._items, output.shapes):
            packed = torch.empty(1, self._image_tokens, self._transformer.channels, device=self._device)
            item.session.cached_prediction(packed)
            predictions.append(packed.flatten()[: shape.numel()].reshape(shape).to(output.dtype))
        self._invocation.end()
        return predictions if output.is_list else torch.cat(predictions)

    def end(self, sample: list[torch.Tensor] | torch.Tensor) -> None:
        """The end of the call of a model that predicted this."""
        if not self._skips_blocks:
            if self.keeps_prediction:
                self._store_prediction(sample)
            self._invocation.has_run = True
        self._invocation.end()

    def _store_prediction(self, sample: torch.Tensor | list[torch.Tensor]) -> None:
        is_list = isinstance(sample, list)
        predictions = sample if is_list else sample.split(1)
        self._invocation.output = Output([p.shape for p in predictions], predictions[0].dtype, is_list)
        for item, prediction in zip(self._items, predictions):
            # Models cut off what they padded their latents with: there may be fewer numbers.
            packed = torch.zeros(1, self._image_tokens, self._transformer.channels, device=self._device)
            packed.flatten()[: prediction.numel()] = prediction.flatten()
            item.session.store_prediction(packed)

    def store_hidden(self, hidden: torch.Tensor) -> None:
        """Image tokens [B, N, d] as the last block leaves them, in whatever order."""
        for i, item in enumerate(self._items):
            item.session.store_hidden(hidden[i : i + 1].float().contiguous())

    def reused_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, N, d] of an earlier step, in the order of then, as `hidden` in type."""
        reused = torch.empty(hidden.shape, dtype=torch.float32, device=hidden.device)
        for i, item in enumerate(self._items):
            item.session.cached_hidden(reused[i : i + 1])
        return reused.to(hidden.dtype)

    # Attention.

    def attend(self, index: int, product: Product, first: int) -> torch.Tensor:
        """Layer `index`: [B, H, S, D] of items [first, first + B) of the batch."""
        query, key, value = product.query, product.key, product.value
        batch, heads, tokens, head_dim = query.shape
        if not self._invocation.items:
            self._dtype = query.dtype
            self.make_items(self._texts_of(product), heads, head_dim)
            self.begin()
        if query.dtype != self._dtype:
            raise UnsupportedError(
                f"{self._transformer.name}: layer {index}: expected attention in {self._dtype}, as the "
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
                    f"{self._transformer.name}: layer {index}: expected {item.text_tokens} text tokens in "
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

    def _texts_of(self, product: Product) -> list[Text]:
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
                f"{self._transformer.name}: attention mask: expected booleans [B, 1, 1, S], found "
                f"{mask.dtype} {list(mask.shape)}"
            )
        keys = mask[index if len(mask) > 1 else 0, 0, 0]
        text, image = TokenLayout(self._transformer.text_is_first, self._image_tokens).split(keys, 0)
        if not image.all():
            raise UnsupportedError(
                f"{self._transformer.name}: attention mask: expected all image tokens, found some"
            )
        return None if text.all() else text.nonzero().flatten()

    def in_models_order(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        """Image tokens as the model has them."""
        return in_order(tensor, axis, self._inverse if self._reorders_blocks else None)
