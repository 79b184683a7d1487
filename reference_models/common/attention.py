"""Scaled dot-product attention over one stream, several streams, or windows of another stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Stream = tuple[Tensor, Tensor, Tensor]


def heads(x: Tensor, count: int) -> Tensor:
    """[B, N, C] -> [B, N, count, C / count]."""
    return x.unflatten(2, (count, -1))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """[B, N, H, D] x3 -> [B, N, H D]. mask: True where a query may read, broadcast to [B, H, N_q, N_k]."""
    q, k, v = (x.permute(0, 2, 1, 3) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).permute(0, 2, 1, 3).flatten(2, 3)


def joint_sdpa(streams: Sequence[Stream], visible: Sequence[Sequence[int]]) -> list[Tensor]:
    """Attention of several streams in one graph; `visible[i]` names the streams whose keys stream i reads, in order.

    Streams that read the same keys share one call, and streams that do not see each other are never in the same call:
    so a stream that reads only itself gives the very bits it gives alone, which a block-diagonal mask would not.
    """
    out: list[Tensor | None] = [None] * len(streams)
    for seen in dict.fromkeys(tuple(v) for v in visible):
        readers = [i for i, v in enumerate(visible) if tuple(v) == seen]
        q = torch.cat([streams[i][0] for i in readers], dim=1)
        k, v = (torch.cat([streams[i][part] for i in seen], dim=1) for part in (1, 2))
        parts = sdpa(q, k, v).split([streams[i][0].shape[1] for i in readers], dim=1)
        for i, part in zip(readers, parts):
            out[i] = part
    return [x for x in out if x is not None]


def window_index(query_at: Tensor, key_at: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Keys within `reach` of each query -> index int64 [Q, M] and valid bool [Q, M], M the widest window.

    query_at [Q], key_at [K]: positions on one axis. A query that reaches no key reads its nearest one.
    """
    distance = (query_at[:, None] - key_at[None]).abs()
    inside = (distance <= reach + 1e-6) | (distance <= distance.min(dim=1, keepdim=True).values)
    order = inside.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    index = order[:, : int(inside.sum(1).max())]
    return index, inside.gather(1, index)


def windowed_cross(q: Tensor, k: Tensor, v: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """Groups of queries read windows of groups of keys.

    q [B, G, n, H, D], k and v [B, K, m, H, D], index and valid [G, M] over the K groups -> [B, G, n, H D].
    """
    batch, groups = q.shape[:2]
    # index_select, for the gradient of x[:, index] is slow where it must be deterministic
    k, v = (x.index_select(1, index.flatten()).unflatten(1, index.shape).flatten(2, 3).flatten(0, 1) for x in (k, v))
    mask = valid.repeat_interleave(k.shape[1] // index.shape[1], dim=1).repeat(batch, 1)[:, None, None]
    return sdpa(q.flatten(0, 1), k, v, mask).unflatten(0, (batch, groups))
