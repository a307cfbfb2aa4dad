"""Between a model's sequence of tokens and a session's: text first, image tokens in token order."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def in_order(tensor: torch.Tensor, axis: int, order: torch.Tensor | None) -> torch.Tensor:
    """The entries of an axis in another order; None: as they are."""
    return tensor if order is None else tensor.index_select(axis, order)


@dataclass(frozen=True)
class TokenLayout:
    """Where the model has text and N image tokens.

    order, inverse: [N], the session's order of the model's image tokens and the way back; None: the same
        order.
    """

    text_is_first: bool
    image_tokens: int
    order: torch.Tensor | None = None
    inverse: torch.Tensor | None = None

    def is_the_sessions(self, text_rows: torch.Tensor | None, tokens: int) -> bool:
        """Whether the session wants these tokens exactly as they come."""
        return (
            self.order is None and text_rows is None and (self.text_is_first or tokens == self.image_tokens)
        )

    def split(self, tensor: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Text and image of the model's sequence."""
        text_tokens = tensor.shape[axis] - self.image_tokens
        text_begin, image_begin = (0, text_tokens) if self.text_is_first else (self.image_tokens, 0)
        return (
            tensor.narrow(axis, text_begin, text_tokens),
            tensor.narrow(axis, image_begin, self.image_tokens),
        )

    def to_session(self, joint: torch.Tensor, axis: int, text_rows: torch.Tensor | None) -> torch.Tensor:
        """text_rows: which rows of the text are no padding; None: all."""
        text, image = self.split(joint, axis)
        if text_rows is not None:
            text = text.index_select(axis, text_rows)
        return torch.cat([text, in_order(image, axis, self.order)], axis)

    def from_session(
        self, result: torch.Tensor, axis: int, text_rows: torch.Tensor | None, output: torch.Tensor
    ) -> None:
        """Into `output`, in the model's sequence. Rows of padding become 0: no other row ever looks at
        them."""
        text, image = self.split(output, axis)
        text_tokens = result.shape[axis] - self.image_tokens
        image.copy_(in_order(result.narrow(axis, text_tokens, self.image_tokens), axis, self.inverse))
        text_result = result.narrow(axis, 0, text_tokens)
        if text_rows is None:
            text.copy_(text_result)
        else:
            text.zero_()
            text.index_copy_(axis, text_rows, text_result)
