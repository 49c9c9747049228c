"""What torch modules are converted to."""

from __future__ import annotations

from mil_rows import Row

_ELEMENTS = {
    "abs": ("torch.abs(x)", "f 2 5"),
    "acos": ("torch.acos(x)", "u 2 5"),
    "asin": ("torch.asin(x)", "u 2 5"),
    "atan": ("torch.atan(x)", "f 2 5"),
    "atanh": ("torch.atanh(x)", "u 2 5"),
    "ceil": ("torch.ceil(x)", "f 2 5"),
    "cos": ("torch.cos(x)", "f 2 5"),
    "cosh": ("torch.cosh(x)", "f 2 5"),
    "erf": ("torch.erf(x)", "f 2 5"),
    "exp": ("torch.exp(x)", "f 2 5"),
    "exp2": ("torch.exp2(x)", "f 2 5"),
    "floor": ("torch.floor(x)", "f 2 5"),
    "log": ("torch.log(x)", "p 2 5"),
    "round": ("torch.round(x * 3)", "f 2 5"),
    "rsqrt": ("torch.rsqrt(x)", "p 2 5"),
    "sign": ("torch.sign(x)", "f 2 5"),
    "sin": ("torch.sin(x)", "f 2 5"),
    "sinh": ("torch.sinh(x)", "f 2 5"),
    "sqrt": ("torch.sqrt(x)", "p 2 5"),
    "tan": ("torch.tan(x)", "u 2 5"),
    "tanh": ("torch.tanh(x)", "f 2 5"),
    "add": ("x + y", "f 2 5; f 5"),
    "sub": ("x - y", "f 2 5; f 2 1"),
    "mul": ("x * y", "f 2 5; f 2 5"),
    "real_div": ("x / y", "f 2 5; p 2 5"),
    "floor_div": ("torch.floor_divide(x, y)", "i40 2 5; i4+1 2 5"),
    "pow": ("torch.pow(x, 3)", "f 2 5"),
    "pow/tensor": ("torch.pow(x, y)", "p 2 5; u 2 5"),
    "maximum": ("torch.maximum(x, y)", "f 2 5; f 2 5"),
    "minimum": ("torch.minimum(x, y)", "f 2 5; f 2 5"),
    "equal": ("(x == y).int()", "i3 2 5; i3 2 5"),
    "not_equal": ("(x != y).int()", "i3 2 5; i3 2 5"),
    "greater": ("(x > y).int()", "f 2 5; f 2 5"),
    "greater_equal": ("(x >= y).int()", "i3 2 5; i3 2 5"),
    "less": ("(x < y).int()", "f 2 5; f 2 5"),
    "less_equal": ("(x <= y).int()", "i3 2 5; i3 2 5"),
    "logical_and": ("torch.logical_and(x > 0, y > 0).int()", "f 2 5; f 2 5"),
    "logical_or": ("torch.logical_or(x > 0, y > 0).int()", "f 2 5; f 2 5"),
    "logical_xor": ("torch.logical_xor(x > 0, y > 0).int()", "f 2 5; f 2 5"),
    "logical_not": ("torch.logical_not(x > 0).int()", "f 2 5"),
    "clip": ("torch.clamp(x, -0.5, 0.25)", "f 2 5"),
    "cast": ("(x * 3).to(torch.int32)", "f 2 5"),
    "select": ("torch.where(x > 0, y, z)", "f 2 5; f 2 5; f 5"),
}
_ACTIVATIONS = {
    "relu": ("F.relu(x)", "f 2 5"),
    "relu6": ("F.relu6(x * 5)", "f 2 5"),
    "leaky_relu": ("F.leaky_relu(x, 0.125)", "f 2 5"),
    "elu": ("F.elu(x, 0.5)", "f 2 5"),
    "gelu": ("F.gelu(x)", "f 2 5"),
    "silu": ("F.silu(x)", "f 2 5"),
    "sigmoid": ("torch.sigmoid(x)", "f 2 5"),
    "softplus": ("F.softplus(x)", "f 2 5"),
    "sigmoid_hard": ("F.hardsigmoid(x)", "f 2 5"),
    "thresholded_relu/hardswish": ("F.hardswish(x)", "f 2 5"),
    "softmax": ("torch.softmax(x, 1)", "f 2 5 3"),
}
_REDUCTIONS = {
    "reduce_sum": ("x.sum(1)", "f 2 5 3"),
    "reduce_mean": ("x.mean((1, 2), keepdim=True)", "f 2 5 3"),
    "reduce_max": ("x.amax((0, 2))", "f 2 5 3"),
    "reduce_min": ("x.amin(-1, keepdim=True)", "f 2 5 3"),
    "reduce_l2_norm": ("torch.linalg.vector_norm(x, 2, dim=-1)", "f 2 5 3"),
    "reduce_log_sum_exp": ("torch.logsumexp(x, 1)", "f 2 5 3"),
    "reduce_argmax": ("x.argmax(1).int()", "f 2 5 3"),
    "reduce_argmin": ("x.argmin(-1, keepdim=True).int()", "f 2 5 3"),
}
_SHAPES = {
    "reshape": ("x.reshape(3, 10)", "f 2 5 3"),
    "transpose": ("x.permute(2, 0, 1)", "f 2 5 3"),
    "expand_dims": ("x.unsqueeze(1).unsqueeze(-1)", "f 2 5"),
    "squeeze": ("x.squeeze(1)", "f 2 1 5"),
    "slice_by_index": ("x[:, 1:4, ::2]", "f 2 5 6"),
    "slice_by_index/select": ("x[:, -1]", "f 2 5 6"),
    "concat": ("torch.cat([x, y, x], 1)", "f 2 3; f 2 4"),
    "stack": ("torch.stack([x, y], 1)", "f 2 3; f 2 3"),
    "split": ("sum(one.mean(1, keepdim=True) for one in torch.split(x, 2, 1))", "f 2 6"),
    "pad": ("F.pad(x, (1, 2, 3, 0), value=0.5)", "f 2 3 4"),
    "pad/reflect": ("F.pad(x, (1, 2), mode='reflect')", "f 2 3 4"),
    "pad/replicate": ("F.pad(x, (1, 2, 2, 1), mode='replicate')", "f 1 2 3 4"),
    "tile": ("x.repeat(2, 1, 3)", "f 2 3 4"),
    "tile/expand": ("x.expand(2, 3, 4) + y", "f 2 1 4; f 2 3 4"),
    "reverse": ("torch.flip(x, (1,))", "f 2 3 4"),
    "pixel_shuffle": ("F.pixel_shuffle(x, 2)", "f 1 8 3 4"),
    "pixel_unshuffle": ("F.pixel_unshuffle(x, 2)", "f 1 2 4 6"),
    "band_part": ("torch.tril(x)", "f 4 5"),
    "band_part/upper": ("torch.triu(x)", "f 4 5"),
    "one_hot": ("F.one_hot(x.long(), 6).float()", "i6 2 4"),
}
_CHOICES = {
    "cumsum": ("torch.cumsum(x, 1)", "f 2 5 3"),
    "argsort": ("torch.argsort(x, 1).int()", "f 2 5"),
    "topk": ("torch.topk(x, 3, 1)[0]", "f 2 7"),
    "topk/indices": ("torch.topk(x, 3, 1, largest=False)[1].int()", "f 2 7"),
    "gather": ("torch.index_select(x, 1, y)", "f 3 5 2; i5 4"),
    "gather/embedding": ("self.a(x)", "i9 2 4", "nn.Embedding(9, 6)"),
    "gather_along_axis": ("torch.gather(x, 1, y.long())", "f 2 5; i5 2 3"),
    "gather_nd": ("x[y.long(), z.long()]", "f 4 5 2; i4 3; i5 3"),
    "scatter_along_axis": ("torch.scatter(x, 1, y.long(), z)", "f 2 5; d5 2 3; f 2 3"),
    "scatter_along_axis/add": ("torch.scatter_add(x, 1, y.long(), z)", "f 2 5; i5 2 3; f 2 3"),
    "scatter_nd": ("torch.index_put(x, (y.long(),), z)", "f 6 2; d6 3; f 3 2"),
    "slice_update": ("torch.slice_scatter(x, y, 1, 1, 3)", "f 2 5; f 2 2"),
}
_LAYERS = {
    "linear": ("self.a(x)", "f 2 3 8", "nn.Linear(8, 5)"),
    "linear/no_bias": ("self.a(x)", "f 2 3 8", "nn.Linear(8, 5, bias=False)"),
    "matmul": ("x @ y", "f 2 3 4; f 2 4 5"),
    "matmul/transposed": ("x @ y.transpose(-1, -2)", "f 2 3 4; f 2 5 4"),
    "conv": ("self.a(x)", "f 1 4 9 8", "nn.Conv2d(4, 6, 3, 2, 1)"),
    "conv/groups": ("self.a(x)", "f 1 4 9 8", "nn.Conv2d(4, 8, (3, 2), 1, 0, 2, groups=4)"),
    "conv/one": ("self.a(x)", "f 2 4 9", "nn.Conv1d(4, 6, 3, padding=1)"),
    "conv/three": ("self.a(x)", "f 1 2 4 5 6", "nn.Conv3d(2, 3, 2, stride=2)"),
    "conv/same": ("self.a(x)", "f 1 4 9 8", "nn.Conv2d(4, 6, 4, padding='same')"),
    "conv_transpose": ("self.a(x)", "f 1 4 5 6", "nn.ConvTranspose2d(4, 3, 3, 2, 1)"),
    "conv_transpose/output": (
        "self.a(x)",
        "f 1 4 5 6",
        "nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1)",
    ),
    "conv_transpose/groups": ("self.a(x)", "f 1 4 7", "nn.ConvTranspose1d(4, 6, 4, 2, groups=2)"),
    "layer_norm": ("self.a(x)", "f 2 3 8", "nn.LayerNorm(8)"),
    "layer_norm/two": ("self.a(x)", "f 2 3 8", "nn.LayerNorm((3, 8), elementwise_affine=False)"),
    "instance_norm": ("self.a(x)", "f 2 3 4 5", "nn.InstanceNorm2d(3, affine=True)"),
    "batch_norm": ("self.a(x)", "f 2 3 4 5", "nn.BatchNorm2d(3)"),
    "reduce_mean/group": ("self.a(x)", "f 2 4 5 3", "nn.GroupNorm(2, 4)"),
    "avg_pool": ("F.avg_pool2d(x, 3, 2, 1)", "f 1 3 9 8"),
    "avg_pool/ceil": ("F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)", "f 1 3 8 9"),
    "avg_pool/excluded": ("F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)", "f 1 3 9 8"),
    "avg_pool/one": ("F.avg_pool1d(x, 3)", "f 1 3 9"),
    "max_pool": ("F.max_pool2d(x, 3, 2, 1)", "f 1 3 9 8"),
    "max_pool/ceil": ("F.max_pool2d(x, 2, 2, ceil_mode=True)", "f 1 3 9 7"),
    "reduce_mean/adaptive": ("F.adaptive_avg_pool2d(x, 1)", "f 1 3 9 7"),
    "scaled_dot_product_attention": (
        "F.scaled_dot_product_attention(x, y, z)",
        "f 1 2 3 4; f 1 2 5 4; f 1 2 5 4",
    ),
    "upsample_bilinear": (
        "F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)",
        "f 1 2 3 4",
    ),
    "upsample_bilinear/corners": (
        "F.interpolate(x, size=(6, 8), mode='bilinear', align_corners=True)",
        "f 1 2 3 4",
    ),
    "upsample_bilinear/odd": (
        "F.interpolate(x, size=(5, 7), mode='bilinear', align_corners=False)",
        "f 1 2 3 4",
    ),
    "upsample_nearest_neighbor": ("F.interpolate(x, scale_factor=2, mode='nearest')", "f 1 2 3 4"),
    "resample": ("F.grid_sample(x, y, align_corners=False)", "f 1 2 4 5; u 1 3 3 2"),
}


# What differs between opsets.
_OLD = (
    "gather",
    "gather_along_axis",
    "gather_nd",
    "scatter_along_axis",
    "scatter_nd",
    "topk",
    "argsort",
    "reduce_argmax",
    "cast",
    "pad/reflect",
    "linear",
    "conv",
    "conv_transpose/output",
    "batch_norm",
    "matmul/transposed",
    "upsample_bilinear",
    "resample",
    "gelu",
    "layer_norm",
)


# Each group is one child process.
_TABLES = {
    "elements": _ELEMENTS,
    "activations": _ACTIVATIONS | _REDUCTIONS,
    "shapes": _SHAPES | _CHOICES,
    "layers": _LAYERS,
}


def _rows(opset: str, table: dict[str, tuple[str, ...]]) -> list[Row]:
    return [
        Row(name, given, inputs, parts="".join(parts), opset=opset)
        for name, (given, inputs, *parts) in table.items()
    ]


def _old(opset: str) -> list[Row]:
    tables = [_rows(opset, table) for table in _TABLES.values()]
    return [row for rows in tables for row in rows if row.name in _OLD]


TORCH = {
    **{name: _rows("iOS18", table) for name, table in _TABLES.items()},
    **{opset: _old(opset) for opset in ("iOS15", "iOS16", "iOS17")},
}
