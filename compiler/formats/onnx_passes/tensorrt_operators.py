"""What the parser of TensorRT 10.3 takes, as data.

From onnx-tensorrt's docs/operators.md (TensorRT 10.15) less what its docs/Changelog.md says came
after 10.3: STFT, the window operators, Attention, RMSNormalization, RotaryEmbedding and
TensorScatter; Pad's axes, varying axes of Squeeze, Unsqueeze and CumSum, integers in Pow, ellipses
in Einsum. Opset 20 is the newest of 10.3.
"""

from __future__ import annotations

OPSET_MIN, OPSET_MAX = 9, 20

FLOATS = frozenset({"float16", "float", "bfloat16"})
INTEGERS = frozenset({"int32", "int64"})
BOOLEAN = frozenset({"bool"})
NUMBERS = FLOATS | INTEGERS
ANY = NUMBERS | BOOLEAN
# Only as inputs and outputs of the network, or between QuantizeLinear and DequantizeLinear.
BORDER = ANY | {"uint8"}
QUANTISED = frozenset({"int8"})

_ROWS: tuple[tuple[frozenset[str], str], ...] = (
    (
        FLOATS,
        (
            "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv "
            "ConvTranspose Cos Cosh CumSum DeformConv Dropout Einsum Elu Erf Exp Floor GRU Gemm "
            "GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample GroupNormalization "
            "HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM "
            "LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool "
            "MeanVarianceNormalization Mish NonMaxSuppression NonZero PRelu ParametricSoftplus "
            "Pow RNN Reciprocal Resize RoiAlign Round ScaledTanh Scan Selu Sigmoid Sin Sinh "
            "Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample"
        ),
    ),
    (
        NUMBERS,
        (
            "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less "
            "LessOrEqual Max Mean Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum "
            "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare "
            "Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK"
        ),
    ),
    (
        ANY,
        (
            "CastLike Concat Constant ConstantOfShape Expand EyeLike Flatten Gather "
            "GatherElements GatherND Identity If Loop OneHot RandomNormal RandomNormalLike "
            "RandomUniform RandomUniformLike Reshape ReverseSequence Shape Size Slice Split "
            "Squeeze Tile Transpose Trilu Unsqueeze Where"
        ),
    ),
    (BOOLEAN, "And Not Or Xor"),
    (BORDER, "Cast"),
    (FLOATS, "QuantizeLinear"),
    (QUANTISED, "DequantizeLinear"),
)
OPERATORS: dict[str, frozenset[str]] = {
    name: types for types, names in _ROWS for name in names.split()
}
# Where the type that counts stands, if it is not the first input's.
TYPED_PLACE = {"Where": 1, "If": -1, "Loop": -1, "Scan": -1, "OneHot": 2}
# Inputs that must be constants, by their place.
CONSTANT_PLACE = {
    "CumSum": 1,
    "OneHot": 1,
    "Squeeze": 1,
    "Unsqueeze": 1,
    **dict.fromkeys(
        (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
            *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        ),
        1,
    ),
}
# Attributes with the values that are taken; one that is not given has its default, which is.
ATTRIBUTES: dict[str, dict[str, tuple[object, ...]]] = {
    "Resize": {
        "mode": (b"nearest", b"linear"),
        "coordinate_transformation_mode": (
            *(b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn"),
            *(b"asymmetric", b"align_corners"),
        ),
        "antialias": (0,),
        "keep_aspect_ratio_policy": (b"stretch",),
    },
    "TopK": {"sorted": (1,)},
    "ScatterND": {"reduction": (b"none",)},
    "LSTM": {"input_forget": (0,), "layout": (0,)},
}
# Operators of which only so many outputs exist.
OUTPUTS = {"MaxPool": 1, "LayerNormalization": 1}
UNDILATED = frozenset({"AveragePool", "MaxPool", "LpPool"})
