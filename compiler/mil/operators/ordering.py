"""Operators that count, sort and choose."""

from __future__ import annotations

from typing import Any

import torch

from ..values import Args


def cumsum(args: Args) -> Any:
    """Return running sums along an axis, from either end, with or without the element itself."""
    x, axis, back = args.tensor("x"), args.number("axis"), args.flag("reverse")
    if back:
        x = x.flip(axis)
    found = torch.cumsum(x, axis)
    if args.flag("exclusive"):
        found = found - x
    return found.flip(axis) if back else found


def argsort(args: Args) -> Any:
    """Return the places in order; equal elements keep theirs."""
    ascending = args.flag("ascending")
    x, axis = args.tensor("x"), args.number("axis", -1)
    return torch.argsort(x, dim=axis, descending=not ascending, stable=True)


def topk(args: Args) -> Any:
    """Return the largest or smallest of an axis, and where they are if asked for."""
    x, axis, count = args.tensor("x"), args.number("axis", -1), args.number("k", 1)
    order = torch.argsort(x, dim=axis, descending=not args.flag("ascending"), stable=True)
    places = order.narrow(axis, 0, x.shape[axis] if count == -1 else count)
    if not args.flag("sort", True):
        places = places.sort(dim=axis).values
    found = x.gather(axis, places)
    return (found, places) if args.flag("return_indices", True) else (found,)


def non_zero(args: Args) -> Any:
    """Return the places of what is not zero."""
    return torch.nonzero(args.tensor("x"))


def non_maximum_suppression(args: Args) -> Any:
    """Return the boxes that no likelier box overlaps; what is left is filled with zeros and -1.

    Sources: docstrings of coremltools' iOS15 and iOS17 operators.
    """
    boxes, scores = args.tensor("boxes"), args.tensor("scores")
    # From iOS17 on there is no threshold, and boxes are the last axis.
    last = not args.has("score_threshold")
    if last:
        boxes, scores = boxes.transpose(-1, -2), scores.transpose(-1, -2)
    most = args.number("max_boxes")
    rows = [_kept(args, one, of) for one, of in zip(boxes, scores, strict=True)]
    places = torch.stack(
        [torch.tensor((row + [-1] * most)[:most], dtype=torch.int64) for row in rows]
    )
    there = (places >= 0).unsqueeze(-1)
    at = places.clamp(min=0).unsqueeze(-1)
    found = [
        torch.where(there, one.gather(1, at.expand(-1, -1, one.shape[-1])), torch.zeros(()))
        for one in (boxes, scores)
    ]
    if last:
        return found[0].transpose(-1, -2), found[1].transpose(-1, -2), places
    return found[0], found[1], places, there.squeeze(-1).sum(1)


def _kept(args: Args, boxes: Any, scores: Any) -> list[int]:
    best, kinds = scores.max(-1)
    order = torch.argsort(best, descending=True, stable=True).tolist()
    if args.has("score_threshold"):
        order = [one for one in order if float(best[one]) >= args.real("score_threshold")]
    limit, apart = args.real("iou_threshold"), args.flag("per_class_suppression")
    kept: list[int] = []
    for one in order:
        against = [other for other in kept if not apart or kinds[other] == kinds[one]]
        if not against or float(_overlap(boxes[one], boxes[against]).max()) <= limit:
            kept.append(one)
    return kept


def _overlap(box: Any, others: Any) -> Any:
    """Return the intersection over union of boxes of centre and size."""
    low = torch.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = torch.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    both = (high - low).clamp(min=0).prod(-1)
    whole = box[2:].prod() + others[:, 2:].prod(-1) - both
    return both / whole.clamp(min=torch.finfo(torch.float32).tiny)
