"""An attention product of PyTorch, and which rows of text its mask leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Product:
    """Arguments of scaled_dot_product_attention: query [B, H, S, D], key and value [B, H, Nk, D]."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def may_be_self_attention(self) -> bool:
        """Whether it may be that of all tokens; others are a picture prompt's, say."""
        return self.query.shape[1:3] == self.key.shape[1:3] and not self.is_causal and self.dropout_p == 0
