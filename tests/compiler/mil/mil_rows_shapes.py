"""Rows that are built by hand: shapes, choices, pictures, loops, what is stored rounded."""

from __future__ import annotations

SHAPES = {
    "shape": ("mb.shape(x=mb.non_zero(x=x))", "torch.tensor([10, 2]).int()", "p 2 5"),
    "reshape": ("mb.reshape(x=x, shape=[0, -1, 3])", "x.reshape(2, 8, 3)", "f 2 4 6"),
    "reshape_like": (
        (
            "mb.reshape_like(x=x, ref_tensors=(y, z), begins=(0, 1), ends=(2, 0),"
            " end_masks=(False, True))"
        ),
        "x.reshape(2, 3, 4, 5)",
        "f 6 20; f 2 3 9; f 7 4 5",
    ),
    "flatten2d": ("mb.flatten2d(x=x, axis=2)", "x.reshape(6, 20)", "f 2 3 4 5"),
    "squeeze/all": ("mb.squeeze(x=x)", "x.reshape(2, 3)", "f 1 2 1 3"),
    "slice_by_index/back": (
        (
            "mb.slice_by_index(x=x, begin=[0, 4], end=[1, 0], stride=[1, -2],"
            " begin_mask=[True, False], end_mask=[True, True])"
        ),
        "x[:, [4, 2, 0]]",
        "f 2 6",
    ),
    "slice_by_index/squeezed": (
        (
            "mb.slice_by_index(x=x, begin=[-1, 1, 0], end=[0, -1, 0],"
            " squeeze_mask=[True, False, False], end_mask=[False, False, True])"
        ),
        "x[-1, 1:-1]",
        "f 3 5 4",
    ),
    "slice_by_size": ("mb.slice_by_size(x=x, begin=[1, 2], size=[2, -1])", "x[1:3, 2:]", "f 4 5"),
    "slice_update": (
        "mb.slice_update(x=x, update=y, begin=[1, 0], end=[4, 5], stride=[2, 2])",
        "x.index_put((torch.tensor([[1], [3]]), torch.tensor([[0, 2, 4]])), y)",
        "f 4 5; f 2 3",
    ),
    "concat/interleave": (
        "mb.concat(values=(x, y), axis=1, interleave=True)",
        "torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)",
        "f 3 2; f 3 2",
    ),
    "split/even": ("mb.split(x=x, num_splits=3, axis=1)", "x.chunk(3, 1)", "f 2 6"),
    "split/sizes": ("mb.split(x=x, split_sizes=[1, 5], axis=1)", "x.split([1, 5], 1)", "f 2 6"),
    "reverse_sequence": (
        "mb.reverse_sequence(x=x, lengths=[2, 4], seq_axis=1, batch_axis=0)",
        "torch.stack([x[0][[1, 0, 2, 3]], x[1][[3, 2, 1, 0]]])",
        "f 2 4 3",
    ),
    "sliding_windows": (
        "mb.sliding_windows(x=x, axis=1, size=3, stride=2)",
        "torch.stack([x[:, 0:3], x[:, 2:5], x[:, 4:7]], 1)",
        "f 2 8 2",
    ),
    "depth_to_space": (
        "mb.depth_to_space(x=x, block_size=2)",
        "F.pixel_shuffle(x.reshape(1, 4, 2, 3, 4).transpose(1, 2).reshape(1, 8, 3, 4), 2)",
        "f 1 8 3 4",
    ),
    "space_to_depth": (
        "mb.space_to_depth(x=x, block_size=2)",
        "F.pixel_unshuffle(x, 2).reshape(1, 2, 4, 2, 3).transpose(1, 2).reshape(1, 8, 2, 3)",
        "f 1 2 4 6",
    ),
    "space_to_batch": (
        "mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[0, 0], [1, 1]])",
        "torch.cat([F.pad(x, (1, 1))[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])",
        "f 2 3 4 4",
    ),
    "batch_to_space": (
        "mb.batch_to_space(x=x, block_shape=[1, 2], crops=[[0, 1], [1, 0]])",
        "torch.stack([x[:2], x[2:]], -1).reshape(2, 3, 4, 8)[:, :, :3, 1:]",
        "f 4 3 4 4",
    ),
    "crop": (
        "mb.crop(x=x, crop_height=[1, 0], crop_width=[2, 1])",
        "x[..., 1:, 2:-1]",
        "f 1 2 4 6",
    ),
    "pad/inner": (
        "mb.pad(x=x, pad=[1, 2, 0, 1], mode='constant', constant_val=0.5)",
        "F.pad(x, (0, 1, 1, 2), value=0.5)",
        "f 2 3 4",
    ),
    "fill": (
        "mb.add(x=mb.fill(shape=mb.shape(x=mb.non_zero(x=x)), value=2.5), y=0.5)",
        "torch.full((6, 2), 3.0)",
        "p 2 3",
    ),
    "fill_like": ("mb.fill_like(ref_tensor=x, value=2.5)", "torch.full((2, 3), 2.5)", "f 2 3"),
    "range_1d": (
        "mb.range_1d(start=1, end=mb.squeeze(x=x), step=2)",
        "torch.arange(1, int(x), 2).int()",
        "i9+3 1",
    ),
    "band_part": (
        "mb.band_part(x=x, lower=1, upper=0)",
        "torch.tril(x) - torch.tril(x, -2)",
        "f 4 5",
    ),
    "one_hot": (
        "mb.one_hot(indices=x, one_hot_vector_size=5, axis=1, on_value=2.0, off_value=0.5)",
        "F.one_hot(x.long(), 5).transpose(1, 2) * 1.5 + 0.5",
        "i5 2 3",
    ),
}
CHOICES = {
    "cumsum": (
        "mb.cumsum(x=x, axis=1, exclusive=True, reverse=True)",
        "x.flip(1).cumsum(1).flip(1) - x",
        "f 2 5",
    ),
    "argsort": ("mb.argsort(x=x, axis=0, ascending=True)", "x.argsort(0).int()", "f 5 2"),
    "topk": (
        "mb.topk(x=x, k=2, axis=0, ascending=True)",
        "[x.sort(0).values[:2], x.sort(0).indices[:2].int()]",
        "f 5 3",
    ),
    "non_zero": ("mb.non_zero(x=x)", "torch.nonzero(x).int()", "i2 3 4"),
    "non_maximum_suppression": (
        (
            "mb.non_maximum_suppression(boxes=np.float32(BOXES).T[None], scores=mb.expand_dims(x=x,"
            " axes=[0]), iou_threshold=0.25, max_boxes=3)"
        ),
        "chosen(x)",
        "f 2 4",
    ),
    "non_maximum_suppression/old": (
        (
            "mb.non_maximum_suppression(boxes=np.float32(BOXES)[None], scores=mb.transpose("
            "x=mb.expand_dims(x=x, axes=[0]), perm=[0, 2, 1]), iou_threshold=0.25,"
            " score_threshold=-9.0, max_boxes=3)"
        ),
        "[*(one.mT for one in chosen(x)[:2]), chosen(x)[2], torch.tensor([2]).int()]",
        "f 2 4",
    ),
    "gather": ("mb.gather(x=x, indices=[-1, 0], axis=1)", "x[:, [-1, 0]]", "f 2 5 3"),
    "gather/batch": (
        "mb.gather(x=x, indices=y, axis=1, batch_dims=1)",
        "torch.stack([one[at.long()] for one, at in zip(x, y)])",
        "f 2 5 3; i5 2 4",
    ),
    "gather_nd/batch": (
        "mb.gather_nd(x=x, indices=y, batch_dims=1)",
        "torch.stack([one[at[:, 0].long(), at[:, 1].long()] for one, at in zip(x, y)])",
        "f 2 3 3 4; i3 2 5 2",
    ),
    "scatter": (
        "mb.scatter(data=x, indices=y, updates=z, axis=1, mode='add')",
        "x.index_add(1, y, z)",
        "f 2 5; i5 3; f 2 3",
    ),
    "scatter/update": (
        "mb.scatter(data=x, indices=[3, 1], updates=y, axis=0, mode='update')",
        "x.index_copy(0, torch.tensor([3, 1]), y)",
        "f 5 2; f 2 2",
    ),
    "scatter_along_axis/max": (
        "mb.scatter_along_axis(data=x, indices=y, updates=z, axis=1, mode='max')",
        "x.scatter_reduce(1, y.long(), z, 'amax')",
        "f 2 5; i5 2 3; f 2 3",
    ),
    "scatter_nd": (
        "mb.scatter_nd(data=x, indices=y, updates=z, mode='sub')",
        "x.index_put((y[:, 0].long(), y[:, 1].long()), -z, accumulate=True)",
        "f 4 3 2; i3 5 2; f 5 2",
    ),
    "scatter_nd/mul": (
        "mb.scatter_nd(data=x, indices=[[0], [2]], updates=y, mode='mul')",
        "torch.stack([x[0] * y[0], x[1], x[2] * y[1]])",
        "f 3 2; f 2 2",
    ),
}
PICTURES = {
    "resize_nearest_neighbor": (
        "mb.resize_nearest_neighbor(x=x, target_size_height=5, target_size_width=7)",
        "F.interpolate(x, size=(5, 7), mode='nearest')",
        "f 1 2 3 4",
    ),
    "upsample_bilinear/corner": (
        (
            "mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2,"
            " align_corners=False, half_pixel_centers=False)"
        ),
        "sampled(x, np.arange(6) / 2, np.arange(8) / 2)",
        "f 1 2 3 4",
    ),
    "resample/unnormalised": (
        (
            "mb.resample(x=x, coordinates=np.float32([[[[0.5, 1.5]], [[3.25, 0]]]]),"
            " sampling_mode='bilinear', padding_mode='border', padding_value=0.0,"
            " coordinates_mode='unnormalized', align_corners=True)"
        ),
        "torch.stack([sampled(x, [1.5], [0.5]), sampled(x, [0], [3.25])], 2).reshape(1, 2, 2, 1)",
        "f 1 2 3 5",
    ),
    "resample/filled": (
        (
            "mb.resample(x=x, coordinates=np.float32([[[[2, 2]], [[0, 0]]]]),"
            " sampling_mode='nearest', padding_mode='constant', padding_value=0.5,"
            " coordinates_mode='normalized_zero_to_one', align_corners=True)"
        ),
        "torch.stack([torch.full((1, 2, 1, 1), 0.5), x[:, :, :1, :1]], 2).reshape(1, 2, 2, 1)",
        "f 1 2 3 5",
    ),
    "affine": (
        (
            "mb.affine(x=x, transform_matrix=np.float32([[-1, 0, 0, 0, 1, 0]]), output_height=3,"
            " output_width=4, sampling_mode='bilinear', padding_mode='constant', padding_value=0.0,"
            " coordinates_mode='normalized_minus_one_to_one', align_corners=True)"
        ),
        "x.flip(-1)",
        "f 1 2 3 4",
    ),
    "crop_resize": (
        (
            "mb.crop_resize(x=x, boxes=np.float32([[0, 1, 2, 3]]), box_indices=[0],"
            " target_height=3, target_width=5, sampling_mode='STRICT_ALIGN_CORNERS')"
        ),
        "sampled(x, [0, 1, 2], [1, 1.5, 2, 2.5, 3])",
        "f 1 2 4 5",
    ),
}
PICTURES |= {
    f"resize/{mode}": (
        f"mb.resize(x=x, shape=[1, 0, {size}], resized_dims=np.uint32(2), sampling_mode='{mode}')",
        f"sampled(x, {rows}, {places})",
        "f 1 2 3 4",
    )
    for mode, size, places, rows in (
        ("DEFAULT", 8, "[0, 0.5, 1, 1.5, 2, 2.5, 3, 3]", "[0, 1, 2]"),
        ("STRICT_ALIGN_CORNERS", 7, "[0, 0.5, 1, 1.5, 2, 2.5, 3]", "[0, 1, 2]"),
        ("UNALIGN_CORNERS", 8, "[0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]", "[0, 1, 2]"),
        # Half a step from each end, on the axis that keeps its size too.
        ("OFFSET_CORNERS", 6, "[0.25, 0.75, 1.25, 1.75, 2.25, 2.75]", "[1 / 3, 1, 5 / 3]"),
    )
}
PICTURES |= {
    f"resize_bilinear/{mode}": (
        (
            f"mb.resize_bilinear(x=x, target_size_height=3, target_size_width={size},"
            f" sampling_mode='{mode}')"
        ),
        f"sampled(x, [0, 1, 2], {places})",
        "f 1 2 3 4",
    )
    for mode, size, places in (
        ("DEFAULT", 8, "[0, 0.5, 1, 1.5, 2, 2.5, 3, 3]"),
        ("UNALIGN_CORNERS", 8, "[0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]"),
    )
}
RECURRENT = {
    "lstm": ("recurrent.lstm(x)", "recurrent.torch_lstm(x)", "f 5 2 4"),
    "lstm/both": ("recurrent.lstm(x, both=True)", "recurrent.torch_lstm(x, both=True)", "f 5 2 4"),
    "gru": ("recurrent.gru(x)", "recurrent.torch_gru(x)", "f 5 2 4"),
    "rnn": ("recurrent.rnn(x)", "recurrent.torch_rnn(x)", "f 5 2 4"),
}
FLOW = {
    "cond": (
        (
            "mb.cond(pred=mb.greater(x=mb.squeeze(x=y), y=0), _true_fn=lambda: mb.mul(x=x, y=2.0),"
            " _false_fn=lambda: mb.add(x=x, y=1.0))"
        ),
        "x * 2",
        "f 2 3; i3+1 1",
    ),
    "cond/not": (
        (
            "mb.cond(pred=mb.less(x=mb.squeeze(x=y), y=0), _true_fn=lambda: mb.mul(x=x, y=2.0),"
            " _false_fn=lambda: mb.add(x=x, y=1.0))"
        ),
        "x + 1",
        "f 2 3; i3+1 1",
    ),
    "while_loop": (
        (
            "mb.while_loop(_cond=lambda n, v: mb.less(x=mb.squeeze(x=n), y=9),"
            " _body=lambda n, v: (mb.add(x=n, y=2), mb.mul(x=v, y=0.5)), loop_vars=(y, x))"
        ),
        "[y + 2 * ((10 - y) // 2), x * 0.5 ** ((10 - y) // 2)]",
        "f 2 3; i6 1",
    ),
}
ROUNDED = {
    "quantize": (
        "mb.quantize(input=x, scale=0.25, zero_point=np.int8(3), output_dtype='int8')",
        "torch.clamp(torch.round(x / 0.25) + 3, -128, 127).to(torch.int8)",
        "f 2 9",
    ),
    "dequantize": (
        (
            "mb.dequantize(input=mb.quantize(input=x, scale=np.float32([0.25, 0.5]), axis=0,"
            " output_dtype='uint8'), scale=np.float32([0.25, 0.5]), axis=0)"
        ),
        "torch.stack([torch.round(x[0] * 4) / 4, torch.round(x[1] * 2) / 2]).clamp(min=0)",
        "f 2 9",
    ),
}
