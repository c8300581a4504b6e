"""Pre-norm transformer layer (Dosovitskiy et al. 2020, arXiv 2010.11929) and its submodules."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt.models.layers import DropPath


class MultiheadAttention(nn.Module):
    """Fused self-attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, embed_dims: int, num_heads: int, *, qkv_bias: bool, attn_drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dims, embed_dims))  # rows: q, k, v
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims)) if qkv_bias else None
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # BxNx3C -> three tensors of shape Bx(heads)xNx(C / heads)
        q, k, v = qkv.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        drop = self.attn_drop_rate if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        return self.out_proj(x.transpose(1, 2).reshape(batch, length, channels))


class SelfAttention(nn.Module):
    """Self-attention with output dropout; the submodule name ``attn`` matches MMSegmentation's keys."""

    def __init__(
        self, embed_dims: int, num_heads: int, *, qkv_bias: bool, drop_rate: float, attn_drop_rate: float
    ) -> None:
        super().__init__()
        self.attn = MultiheadAttention(
            embed_dims, num_heads, qkv_bias=qkv_bias, attn_drop_rate=attn_drop_rate
        )
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_drop(self.attn(x))


class FFN(nn.Module):
    """Two linear layers with a GELU in between; the nesting of ``layers`` matches MMSegmentation's keys."""

    def __init__(self, embed_dims: int, hidden_dims: int, *, drop_rate: float) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, hidden_dims), nn.GELU(), nn.Dropout(drop_rate))
        self.layers = nn.Sequential(first, nn.Linear(hidden_dims, embed_dims), nn.Dropout(drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class LayerScale(nn.Module):
    """Learned scale per channel of a residual branch (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, embed_dims: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dims,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerEncoderLayer(nn.Module):
    """Pre-norm transformer layer on tokens of shape BxNxC."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        drop_path_attn: bool,
        layer_scale_init: float | None,
        norm_eps: float,
    ) -> None:
        super().__init__()

        def layer_scale() -> nn.Module:
            return nn.Identity() if layer_scale_init is None else LayerScale(embed_dims, layer_scale_init)

        self.ln1 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.attn = SelfAttention(
            embed_dims, num_heads, qkv_bias=qkv_bias, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate
        )
        self.ls1 = layer_scale()
        self.ln2 = nn.LayerNorm(embed_dims, eps=norm_eps)
        self.ffn = FFN(embed_dims, int(embed_dims * mlp_ratio), drop_rate=drop_rate)
        self.ls2 = layer_scale()
        self.drop_path = DropPath(drop_path_rate)
        self.drop_path_attn = drop_path_attn

    def forward(self, x: Tensor) -> Tensor:
        branch = self.ls1(self.attn(self.ln1(x)))
        x = x + (self.drop_path(branch) if self.drop_path_attn else branch)
        return x + self.drop_path(self.ls2(self.ffn(self.ln2(x))))
