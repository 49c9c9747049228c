"""What no torch module is converted to, built by hand, and the same in torch."""

from __future__ import annotations

from mil_rows import Row
from mil_rows_shapes import CHOICES, FLOW, PICTURES, RECURRENT, ROUNDED, SHAPES

_ELEMENTS = {
    "identity": ("mb.identity(x=x)", "x", "f 2 5"),
    "inverse": ("mb.inverse(x=x, epsilon=0.125)", "1 / (x + 0.125)", "p 2 5"),
    "log": ("mb.log(x=x, epsilon=0.5)", "torch.log(x + 0.5)", "p 2 5"),
    "rsqrt": ("mb.rsqrt(x=x, epsilon=0.25)", "(x + 0.25) ** -0.5", "p 2 5"),
    "square": ("mb.square(x=x)", "x * x", "f 2 5"),
    "mod": ("mb.mod(x=x, y=y)", "torch.remainder(x, y)", "f 2 5; p 2 5"),
    "real_div/whole": ("mb.real_div(x=x, y=y)", "(x / y).int()", "i40 2 5; i5+1 2 5"),
    "threshold": ("mb.threshold(x=x, alpha=0.25)", "torch.clamp(x, min=0.25)", "f 2 5"),
    "select/bool": (
        "mb.select(cond=mb.greater(x=x, y=y), a=x, b=y)",
        "torch.maximum(x, y)",
        "f 2 5; f 2 5",
    ),
}
_ACTIVATIONS = {
    "softsign": ("mb.softsign(x=x)", "F.softsign(x)", "f 2 5"),
    "thresholded_relu": ("mb.thresholded_relu(x=x, alpha=0.5)", "F.threshold(x, 0.5, 0)", "f 2 9"),
    "clamped_relu": (
        "mb.clamped_relu(x=x, alpha=0.25, beta=1.0)",
        "torch.where(x > 0, torch.clamp(x, max=1.0), 0.25 * x)",
        "f 2 9",
    ),
    "scaled_tanh": (
        "mb.scaled_tanh(x=x, alpha=1.5, beta=0.5)",
        "1.5 * torch.tanh(x * 0.5)",
        "f 2 5",
    ),
    "linear_activation": ("mb.linear_activation(x=x, alpha=2.0, beta=0.5)", "2 * x + 0.5", "f 2 5"),
    "sigmoid_hard": (
        "mb.sigmoid_hard(x=x, alpha=0.5, beta=0.25)",
        "torch.clamp(0.5 * x + 0.25, 0, 1)",
        "f 2 9",
    ),
    "prelu": (
        "mb.prelu(x=x, alpha=np.array([0.5, 0.25, 2.0], np.float32))",
        "F.prelu(x, torch.tensor([0.5, 0.25, 2.0]))",
        "f 2 3 4 2",
    ),
    "softplus_parametric": (
        "mb.softplus_parametric(x=x, alpha=np.float32([0.5, 2]), beta=np.float32([2, 0.5]))",
        "torch.stack([F.softplus(x[:, 0], 2) , 4 * F.softplus(x[:, 1], 0.5) / 4], 1)",
        "f 2 2 4",
    ),
    "gelu": ("mb.gelu(x=x, mode='EXACT')", "x * 0.5 * (1 + torch.erf(x / 2**0.5))", "f 2 9"),
    "gelu/tanh": (
        "mb.gelu(x=x, mode='TANH_APPROXIMATION')",
        "F.gelu(x, approximate='tanh')",
        "f 2 9",
    ),
    "gelu/sigmoid": (
        "mb.gelu(x=x, mode='SIGMOID_APPROXIMATION')",
        "x * torch.sigmoid(1.702 * x)",
        "f 2 9",
    ),
}
_REDUCTIONS = {
    "reduce_prod": ("mb.reduce_prod(x=x, axes=[0, 2])", "x.prod(2).prod(0)", "f 2 5 3"),
    "reduce_l1_norm": (
        "mb.reduce_l1_norm(x=x, axes=[1], keep_dims=True)",
        "x.abs().sum(1, keepdim=True)",
        "f 2 5 3",
    ),
    "reduce_l2_norm": (
        "mb.reduce_l2_norm(x=x, axes=[1, 2])",
        "(x**2).sum((1, 2)).sqrt()",
        "f 2 5 3",
    ),
    "reduce_log_sum": ("mb.reduce_log_sum(x=x, axes=[1])", "torch.log(x.sum(1))", "p 2 5 3"),
    "reduce_log_sum_exp": (
        "mb.reduce_log_sum_exp(x=x, axes=[-1])",
        "torch.log(torch.exp(x).sum(-1))",
        "f 2 5 3",
    ),
    "reduce_sum_square": ("mb.reduce_sum_square(x=x, axes=[2])", "(x**2).sum(2)", "f 2 5 3"),
    "reduce_sum": ("mb.reduce_sum(x=x)", "x.sum()", "f 2 5 3"),
}
_PRODUCTS = {
    "einsum": (
        "mb.einsum(values=(x, y), equation='nchw,nwhu->nchu')",
        "torch.einsum('nchw,nwhu->nchu', x, y)",
        "f 1 2 3 4; f 1 4 3 5",
    ),
    "matmul/both": (
        "mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True)",
        "x.mT @ y.mT",
        "f 2 4 3; f 2 5 4",
    ),
    "conv/same": (
        "mb.conv(x=x, weight=W((2, 3, 4, 4)), pad_type='same', strides=[2, 2])",
        "F.conv2d(F.pad(x, (1, 1, 1, 2)), T((2, 3, 4, 4)), stride=2)",
        "f 1 3 9 8",
    ),
    "conv/same_lower": (
        "mb.conv(x=x, weight=W((2, 3, 4, 4)), pad_type='same_lower', strides=[2, 2])",
        "F.conv2d(F.pad(x, (1, 1, 2, 1)), T((2, 3, 4, 4)), stride=2)",
        "f 1 3 9 8",
    ),
    "conv/custom": (
        "mb.conv(x=x, weight=W((2, 3, 3, 2)), pad_type='custom', pad=[1, 2, 0, 1])",
        "F.conv2d(F.pad(x, (0, 1, 1, 2)), T((2, 3, 3, 2)))",
        "f 1 3 5 6",
    ),
    "conv_transpose/custom": (
        "mb.conv_transpose(x=x, weight=W((3, 2, 3)), pad_type='custom', pad=[1, 0], strides=[2])",
        "F.conv_transpose1d(x, T((3, 2, 3)), stride=2)[..., 1:]",
        "f 1 3 5",
    ),
    "conv_transpose/same": (
        "mb.conv_transpose(x=x, weight=W((3, 2, 3)), pad_type='same', strides=[2])",
        "F.conv_transpose1d(x, T((3, 2, 3)), stride=2)[..., :10]",
        "f 1 3 5",
    ),
    "l2_pool": (
        "mb.l2_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type='valid')",
        "F.lp_pool2d(x, 2, 2)",
        "f 1 2 4 6",
    ),
    "max_pool/custom": (
        "mb.max_pool(x=x, kernel_sizes=[3, 2], pad_type='custom', pad=[1, 0, 0, 1])",
        "F.max_pool2d(F.pad(x, (0, 1, 1, 0), value=-1e4), (3, 2), 1)",
        "f 1 2 5 6",
    ),
    "avg_pool/same": (
        "mb.avg_pool(x=x, kernel_sizes=[3], strides=[2], pad_type='same')",
        "F.avg_pool1d(F.pad(x, (0, 1)), 3, 2)",
        "f 1 2 8",
    ),
    "avg_pool/three": (
        "mb.avg_pool(x=x, kernel_sizes=[2, 2, 2], strides=[2, 2, 2], pad_type='valid')",
        "F.avg_pool3d(x, 2, 2)",
        "f 1 2 4 4 6",
    ),
    "l2_norm": (
        "mb.l2_norm(x=x, epsilon=0.125)",
        "x / (x.square().sum((1, 2, 3), keepdim=True) + 0.125).sqrt()",
        "f 2 3 4 5",
    ),
    "local_response_norm": (
        "mb.local_response_norm(x=x, size=3, alpha=0.5, beta=0.75, k=1.0)",
        "F.local_response_norm(x, 3, 0.5, 0.75, 1.0)",
        "f 2 5 4",
    ),
    "layer_norm/inner": (
        "mb.layer_norm(x=x, axes=[1], gamma=W((3,)), beta=T((3,)).numpy() + 1, epsilon=0.125)",
        "(F.layer_norm(x.mT, (3,), T((3,)), T((3,)) + 1, 0.125)).mT",
        "f 2 3 4",
    ),
    "scaled_dot_product_attention/mask": (
        "mb.scaled_dot_product_attention(query=x, key=y, value=y, attn_mask=np.tri(3, 5) > 0)",
        "F.scaled_dot_product_attention(x, y, y, torch.tril(torch.ones(3, 5)).bool())",
        "f 1 2 3 4; f 1 2 5 4",
    ),
    "scaled_dot_product_attention/added": (
        "mb.scaled_dot_product_attention(query=x, key=y, value=y, attn_mask=z)",
        "F.scaled_dot_product_attention(x, y, y, z)",
        "f 1 2 3 4; f 1 2 5 4; f 3 5",
    ),
}


def _rows(*tables: dict[str, tuple[str, str, str]]) -> list[Row]:
    return [
        Row(name, given, inputs, wanted, opset="iOS16" if name.endswith("/old") else "iOS18")
        for table in tables
        for name, (given, wanted, inputs) in table.items()
    ]


BUILT = {
    "built": _rows(_ELEMENTS, _ACTIVATIONS, _REDUCTIONS, _PRODUCTS, SHAPES),
    "chosen": _rows(CHOICES, PICTURES, RECURRENT, FLOW, ROUNDED),
}
