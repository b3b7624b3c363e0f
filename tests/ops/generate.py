"""Write cases.npz: small ONNX models with inputs and ONNX Runtime's outputs.

Keys are NAME/model (uint8, a serialised ModelProto), NAME/in/INPUT and
NAME/out/OUTPUT.  ONNX Runtime runs on the CPU with all optimisations off.
Run as `python tests/ops/generate.py`; the same versions give the same file.
The case list in README.md is rewritten at each run.
"""

import io
import itertools
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
CASES = {}  # name -> (model bytes, feeds, results)
FAILED = {}  # name -> reason
rng = np.random.default_rng(0)
F, I = np.float32, np.int64
INF, NAN = float("inf"), float("nan")


# --- building and running -------------------------------------------------


class C:
    """An operand stored in the model as an initialiser."""

    def __init__(self, array, raw=True):
        self.array, self.raw = np.asarray(array), raw

    def proto(self, name):
        """The TensorProto, with raw_data or with the typed field."""
        if self.raw:
            return numpy_helper.from_array(self.array, name)
        kind = helper.np_dtype_to_tensor_dtype(self.array.dtype)
        return helper.make_tensor(name, kind, self.array.shape, self.array.ravel().tolist())


def N(kind, ins, outs, **attrs):
    """A node; `ins` and `outs` are names separated by spaces ('-' is absent)."""
    names = ["" if n == "-" else n for n in ins.split()]
    attrs = {k: v for k, v in attrs.items() if v is not None}
    return helper.make_node(kind, names, outs.split(), **attrs)


def value(name, array, dyn=False):
    """A typed graph input or output; `dyn` makes every dimension symbolic."""
    shape = [f"{name}_{i}" if dyn else d for i, d in enumerate(array.shape)]
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), shape
    )


def session(data):
    """An ONNX Runtime session without optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def record(name, model, feeds):
    """Run a finished model and keep it as a case."""
    assert name not in CASES and name not in FAILED, name
    data = model.SerializeToString()
    try:
        sess = session(data)
        names = [o.name for o in sess.get_outputs()]
        results = dict(zip(names, sess.run(None, feeds)))
    except Exception as error:  # the list of what ONNX Runtime cannot do
        FAILED[name] = str(error).strip().splitlines()[0]
        return None
    CASES[name] = (data, feeds, results)
    return results


def graph(name, nodes, feeds, outs, inits=None, opset=17, dyn=False):
    """A case from nodes; `outs` are the output names."""
    inits = {k: v if isinstance(v, C) else C(v) for k, v in (inits or {}).items()}

    def build(outputs):
        g = helper.make_graph(
            nodes,
            name,
            [value(k, v, dyn) for k, v in feeds.items()],
            outputs,
            [v.proto(k) for k, v in inits.items()],
        )
        return helper.make_model(
            g, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(10, 8 + (opset > 18) * 2)
        )

    bare = [onnx.ValueInfoProto(name=o) for o in outs.split()]
    results = record(name, build(bare), feeds)
    if results is not None:  # once more, with the types of the outputs
        del CASES[name]
        record(name, build([value(k, v, dyn) for k, v in results.items()]), feeds)


def op(name, kind, *args, opset=17, n_out=1, dyn=False, **attrs):
    """A case of one node.  Arrays are run-time inputs, C initialisers, None absent."""
    feeds, inits, names = {}, {}, []
    for i, a in enumerate(args):
        key = "-" if a is None else f"x{i}"
        names.append(key)
        if isinstance(a, C):
            inits[key] = a
        elif a is not None:
            feeds[key] = np.asarray(a)
    outs = " ".join(f"y{i}" for i in range(n_out))
    graph(name, [N(kind, " ".join(names), outs, **attrs)], feeds, outs, inits, opset, dyn)


def both(name, kind, x, *rest, **kw):
    """Two cases: the operands after the first constant, and at run time."""
    op(name, kind, x, *(None if r is None else C(r) for r in rest), **kw)
    op(name + "_runtime", kind, x, *rest, **kw)


def rnd(*shape, scale=1.0, shift=0.0, dtype=F):
    """Normal numbers on a 2^-10 grid (they compress)."""
    return (np.round((rng.standard_normal(shape) * scale + shift) * 1024) / 1024).astype(dtype)


def pos(*shape, lo=0.125, hi=3.0):
    """Uniform positive numbers."""
    return (np.round(rng.uniform(lo, hi, shape) * 1024) / 1024).astype(F)


def ints(*shape, lo=-9, hi=10, dtype=I):
    """Uniform integers of [lo, hi)."""
    return rng.integers(lo, hi, shape).astype(dtype)


def bools(*shape):
    """Random booleans."""
    return rng.random(shape) < 0.5


def i64(*v):
    """An int64 vector."""
    return np.array(v, I)


# --- convolutions and matrix products ---------------------------------------


def convolutions():
    """Conv and ConvTranspose in one and two dimensions."""
    spec = [
        # name, input, weight, bias, attributes
        ("1d", (2, 3, 17), (5, 3, 3), 1, {}),
        ("1d_pad", (1, 4, 16), (6, 4, 5), 1, dict(pads=[2, 2])),
        ("1d_stride2", (2, 4, 15), (3, 4, 3), 1, dict(pads=[1, 1], strides=[2])),
        ("1d_stride3_nobias", (1, 2, 20), (4, 2, 4), 0, dict(strides=[3])),
        ("1d_dilation2", (1, 3, 19), (4, 3, 3), 1, dict(dilations=[2], pads=[2, 2])),
        ("1d_group2", (1, 6, 11), (4, 3, 3), 1, dict(group=2, pads=[1, 1])),
        ("1d_depthwise", (2, 5, 12), (5, 1, 5), 1, dict(group=5, pads=[2, 2])),
        ("1d_asym_pads", (1, 3, 10), (4, 3, 4), 1, dict(pads=[1, 3])),
        ("1d_causal", (1, 3, 10), (4, 3, 3), 1, dict(pads=[4, 0], dilations=[2])),
        ("1d_pointwise", (2, 7, 9), (5, 7, 1), 1, {}),
        ("1d_pointwise_stride2", (2, 7, 9), (5, 7, 1), 1, dict(strides=[2])),
        ("1d_kernel_longer_than_input", (1, 2, 3), (3, 2, 5), 1, dict(pads=[2, 2])),
        ("1d_wide", (1, 19, 67), (37, 19, 5), 1, dict(pads=[2, 2])),
        ("2d", (1, 3, 7, 6), (4, 3, 3, 3), 1, {}),
        ("2d_same", (2, 3, 7, 6), (4, 3, 3, 3), 1, dict(pads=[1, 1, 1, 1])),
        ("2d_nobias", (1, 3, 5, 8), (4, 3, 3, 3), 0, dict(pads=[1, 1, 1, 1])),
        ("2d_stride2", (1, 3, 9, 8), (5, 3, 3, 3), 1, dict(pads=[1, 1, 1, 1], strides=[2, 2])),
        ("2d_stride2_group2", (1, 4, 9, 8), (6, 2, 3, 3), 1, dict(pads=[1] * 4, strides=[2, 2], group=2)),
        ("2d_stride1x2", (1, 2, 6, 9), (3, 2, 3, 3), 1, dict(strides=[1, 2], pads=[1] * 4)),
        ("2d_patchify", (2, 3, 8, 8), (10, 3, 4, 4), 1, dict(strides=[4, 4])),
        ("2d_patchify_uneven", (1, 3, 9, 11), (7, 3, 4, 4), 1, dict(strides=[4, 4])),
        ("2d_dilation2", (1, 3, 9, 10), (4, 3, 3, 3), 1, dict(dilations=[2, 2], pads=[2] * 4)),
        ("2d_dilation1x3", (1, 2, 7, 12), (4, 2, 3, 3), 1, dict(dilations=[1, 3])),
        ("2d_stride2_dilation2", (1, 2, 11, 12), (4, 2, 3, 3), 1, dict(dilations=[2, 2], strides=[2, 2], pads=[1] * 4)),
        ("2d_group3", (2, 6, 5, 5), (9, 2, 3, 3), 1, dict(group=3, pads=[1] * 4)),
        ("2d_depthwise", (1, 6, 7, 5), (6, 1, 3, 3), 1, dict(group=6, pads=[1] * 4)),
        ("2d_depthwise_stride2", (1, 6, 9, 7), (6, 1, 3, 3), 1, dict(group=6, pads=[1] * 4, strides=[2, 2])),
        ("2d_depthwise_multiplier2", (1, 3, 6, 6), (6, 1, 3, 3), 1, dict(group=3)),
        ("2d_depthwise_nobias", (2, 4, 6, 9), (4, 1, 5, 5), 0, dict(group=4, pads=[2] * 4)),
        ("2d_asym_pads", (1, 3, 6, 7), (4, 3, 3, 3), 1, dict(pads=[0, 1, 1, 0])),
        ("2d_asym_pads_stride2", (1, 3, 8, 8), (4, 3, 3, 3), 1, dict(pads=[0, 0, 1, 1], strides=[2, 2])),
        ("2d_kernel1x3", (1, 3, 5, 7), (4, 3, 1, 3), 1, dict(pads=[0, 1, 0, 1])),
        ("2d_kernel5x2", (1, 3, 8, 6), (4, 3, 5, 2), 1, dict(pads=[2, 0, 2, 1])),
        ("2d_kernel_shape", (1, 2, 5, 5), (3, 2, 3, 3), 1, dict(kernel_shape=[3, 3], pads=[1] * 4)),
        ("2d_pointwise", (2, 5, 4, 3), (7, 5, 1, 1), 1, {}),
        ("2d_pointwise_stride2", (1, 5, 5, 7), (6, 5, 1, 1), 1, dict(strides=[2, 2])),
        ("2d_pointwise_64", (1, 64, 9, 7), (64, 64, 1, 1), 1, {}),
        ("2d_tails", (1, 17, 13, 11), (35, 17, 3, 3), 1, dict(pads=[1] * 4)),
        ("2d_tails_stride2", (1, 17, 13, 11), (35, 17, 3, 3), 0, dict(pads=[1] * 4, strides=[2, 2])),
        ("2d_one_channel", (1, 1, 5, 5), (1, 1, 3, 3), 1, dict(pads=[1] * 4)),
        ("2d_one_pixel", (1, 8, 1, 1), (6, 8, 3, 3), 1, dict(pads=[1] * 4)),
        ("2d_to_one_channel", (1, 20, 9, 9), (1, 20, 3, 3), 1, dict(pads=[1] * 4)),
        ("2d_same_upper", (1, 2, 7, 8), (3, 2, 3, 3), 1, dict(auto_pad="SAME_UPPER", strides=[2, 2])),
        ("2d_same_lower", (1, 2, 7, 8), (3, 2, 3, 3), 1, dict(auto_pad="SAME_LOWER", strides=[2, 2])),
        ("2d_same_upper_even", (1, 2, 7, 8), (3, 2, 4, 2), 1, dict(auto_pad="SAME_UPPER")),
        ("2d_same_lower_even", (1, 2, 7, 8), (3, 2, 4, 2), 1, dict(auto_pad="SAME_LOWER")),
        ("2d_valid", (1, 2, 7, 8), (3, 2, 3, 3), 1, dict(auto_pad="VALID", strides=[2, 1])),
        ("1d_same_upper", (1, 2, 10), (3, 2, 4), 1, dict(auto_pad="SAME_UPPER", strides=[3])),
        ("3d", (1, 2, 4, 5, 3), (3, 2, 3, 3, 3), 1, dict(pads=[1] * 6)),
    ]
    for name, x, w, bias, attrs in spec:
        x, w = rnd(*x), rnd(*w, scale=0.4)
        b = [C(rnd(w.shape[0]))] if bias else []
        op(f"conv_{name}", "Conv", x, C(w), *b, opset=17, **attrs)
    op("conv_2d_runtime_weight", "Conv", rnd(1, 3, 6, 5), rnd(4, 3, 3, 3), rnd(4), pads=[1] * 4)
    op("conv_2d_runtime_weight_nobias", "Conv", rnd(1, 4, 6, 5), rnd(4, 2, 3, 3), group=2)
    op("conv_2d_symbolic_shape", "Conv", rnd(2, 3, 6, 5), C(rnd(4, 3, 3, 3)), C(rnd(4)), pads=[1] * 4, dyn=True)

    spec = [
        ("1d", (1, 3, 7), (3, 4, 3), 1, {}),
        ("1d_stride2_k4", (2, 3, 6), (3, 4, 4), 1, dict(strides=[2], pads=[1, 1])),
        ("1d_stride2_output_padding", (1, 3, 5), (3, 2, 3), 1, dict(strides=[2], pads=[1, 1], output_padding=[1])),
        ("1d_group2", (1, 4, 5), (4, 3, 3), 1, dict(group=2, strides=[2])),
        ("1d_dilation2", (1, 2, 6), (2, 3, 3), 1, dict(dilations=[2])),
        ("1d_wide", (1, 33, 18), (33, 17, 4), 1, dict(strides=[2], pads=[1, 1])),
        ("2d", (1, 3, 4, 5), (3, 2, 3, 3), 1, {}),
        ("2d_nobias", (2, 3, 4, 5), (3, 2, 3, 3), 0, {}),
        ("2d_stride2", (1, 3, 4, 5), (3, 4, 2, 2), 1, dict(strides=[2, 2])),
        ("2d_stride2_k4", (1, 3, 5, 4), (3, 4, 4, 4), 1, dict(strides=[2, 2], pads=[1] * 4)),
        ("2d_stride3x2_output_padding", (1, 2, 3, 4), (2, 3, 3, 3), 1, dict(strides=[3, 2], output_padding=[1, 1])),
        ("2d_asym_pads", (1, 2, 5, 4), (2, 3, 3, 3), 1, dict(strides=[2, 2], pads=[0, 1, 1, 0])),
        ("2d_group2", (1, 4, 3, 4), (4, 3, 3, 3), 1, dict(group=2, strides=[2, 2], pads=[1] * 4)),
        ("2d_depthwise", (1, 4, 5, 3), (4, 1, 3, 3), 1, dict(group=4, strides=[2, 2])),
        ("2d_dilation2", (1, 2, 4, 5), (2, 3, 3, 3), 1, dict(dilations=[2, 2], pads=[1] * 4)),
        ("2d_stride2_dilation2_group2", (1, 4, 4, 3), (4, 2, 3, 3), 0, dict(dilations=[2, 2], strides=[2, 2], group=2)),
        ("2d_output_shape", (1, 2, 4, 4), (2, 3, 3, 3), 1, dict(strides=[2, 2], output_shape=[8, 8])),
        ("2d_same_upper", (1, 2, 4, 5), (2, 3, 3, 3), 1, dict(strides=[2, 2], auto_pad="SAME_UPPER")),
        ("2d_same_lower", (1, 2, 4, 5), (2, 3, 3, 3), 1, dict(strides=[2, 2], auto_pad="SAME_LOWER")),
        ("2d_valid", (1, 2, 4, 5), (2, 3, 3, 3), 1, dict(strides=[2, 1], auto_pad="VALID")),
        ("2d_pointwise", (1, 5, 3, 4), (5, 6, 1, 1), 1, {}),
    ]
    for name, x, w, bias, attrs in spec:
        x, w = rnd(*x), rnd(*w, scale=0.4)
        b = [C(rnd(w.shape[1] * attrs.get("group", 1)))] if bias else []
        op(f"conv_transpose_{name}", "ConvTranspose", x, C(w), *b, **attrs)
    op("conv_transpose_2d_runtime_weight", "ConvTranspose", rnd(1, 3, 4, 3), rnd(3, 2, 2, 2), rnd(2), strides=[2, 2])


def products():
    """Gemm, MatMul and Einsum."""
    for ta, tb in itertools.product((0, 1), (0, 1)):
        a, b = rnd(*((7, 4) if ta else (4, 7))), rnd(*((5, 7) if tb else (7, 5)))
        both(f"gemm_transA{ta}_transB{tb}", "Gemm", a, b, rnd(5), transA=ta, transB=tb)
    for name, c in [("scalar", ()), ("one", (1,)), ("row", (5,)), ("row2d", (1, 5)), ("column", (4, 1)), ("full", (4, 5)), ("one2d", (1, 1))]:
        both(f"gemm_c_{name}", "Gemm", rnd(4, 3), rnd(3, 5), rnd(*c), alpha=0.5, beta=-1.5)
    op("gemm_no_c", "Gemm", rnd(4, 3), C(rnd(3, 5)), alpha=2.0)
    op("gemm_beta0", "Gemm", rnd(4, 3), C(rnd(3, 5)), C(rnd(5)), beta=0.0)
    op("gemm_alpha_transB", "Gemm", rnd(1, 6), C(rnd(9, 6)), C(rnd(9)), alpha=0.25, transB=1)
    op("gemm_tails", "Gemm", rnd(37, 65), C(rnd(65, 33)), C(rnd(33)))
    op("gemm_tails_transB", "Gemm", rnd(37, 65), C(rnd(33, 65)), C(rnd(33)), transB=1)
    op("gemm_tails_runtime", "Gemm", rnd(65, 19), rnd(33, 65), rnd(33), transA=1, transB=1)
    op("gemm_one_row_tails", "Gemm", rnd(1, 131), C(rnd(67, 131)), C(rnd(67)), transB=1)
    op("gemm_double", "Gemm", rnd(3, 4, dtype=np.float64), C(rnd(4, 2, dtype=np.float64)), C(rnd(2, dtype=np.float64)))
    op("gemm_symbolic_shape", "Gemm", rnd(2, 3), C(rnd(4, 3)), C(rnd(4)), transB=1, dyn=True)
    for name, a, b in [
        ("1x1", (5,), (5,)),
        ("1x2", (5,), (5, 3)),
        ("2x1", (4, 5), (5,)),
        ("2x2", (4, 5), (5, 3)),
        ("1x3", (5,), (2, 5, 3)),
        ("3x1", (2, 4, 5), (5,)),
        ("3x2", (2, 4, 5), (5, 3)),
        ("3x3", (2, 4, 5), (2, 5, 3)),
        ("2x3", (4, 5), (3, 5, 2)),
        ("4x2", (2, 3, 4, 5), (5, 2)),
        ("4x4", (2, 3, 4, 5), (2, 3, 5, 2)),
        ("broadcast_3x3", (1, 4, 5), (3, 5, 2)),
        ("broadcast_4x3", (2, 3, 4, 5), (3, 5, 2)),
        ("broadcast_4x4", (2, 1, 4, 5), (1, 3, 5, 2)),
        ("broadcast_one", (2, 1, 4, 5), (2, 3, 5, 2)),
        ("row", (1, 33), (33, 17)),
        ("column", (33, 1), (1, 9)),
        ("tails", (37, 65), (65, 33)),
        ("tails_batched", (3, 9, 31), (3, 31, 21)),
        ("tails_3x2", (2, 17, 33), (33, 35)),
    ]:
        both(f"matmul_{name}", "MatMul", rnd(*a), rnd(*b))
    op("matmul_constant_a", "MatMul", C(rnd(3, 5)), rnd(2, 5, 4))
    op("matmul_symbolic_shape", "MatMul", rnd(2, 3, 4, 5), rnd(2, 3, 5, 4), dyn=True)
    op("matmul_double", "MatMul", rnd(3, 4, dtype=np.float64), rnd(4, 2, dtype=np.float64))
    op("matmul_int64", "MatMul", ints(3, 4), ints(4, 2))
    op("matmul_int32", "MatMul", ints(3, 4, dtype=np.int32), ints(4, 2, dtype=np.int32))

    size = dict(zip("abcdefhijknpqrstvwxyz", [2, 3, 4, 5, 6, 7, 3, 4, 5, 6, 2, 3, 4, 2, 3, 5, 4, 3, 2, 3, 2]))
    for name, eq in [
        ("attention_qk", "bhid,bhjd->bhij"),
        ("attention_av", "bhij,bhjd->bhid"),
        ("attention_qk_nhwc", "bihd,bjhd->bhij"),
        ("attention_av_nhwc", "bhij,bjhd->bihd"),
        ("unet_qk", "bct,bcs->bts"),
        ("unet_av", "bts,bcs->bct"),
        ("matmul", "ij,jk->ik"),
        ("matmul_implicit", "ij,jk"),
        ("batch_matmul", "bij,bjk->bik"),
        ("linear", "bij,kj->bik"),
        ("outer", "i,j->ij"),
        ("dot", "i,i->"),
        ("rotary_outer", "bn,d->bnd"),
        ("hadamard", "ij,ij->ij"),
        ("broadcast", "bij,j->bij"),
        ("sum_both", "ij,jk->i"),
        ("sum_all", "ij,jk->"),
        ("scalar_per_batch", "bij,b->bij"),
        ("relative_position_h", "bhwc,hkc->bhwk"),
        ("relative_position_w", "bhwc,wkc->bhwk"),
        ("unpatchify_product", "nhwpqc,cd->ndhpwq"),
        ("three_operands", "ij,jk,kd->id"),
        ("bilinear", "bi,ijk,bk->bj"),
        ("ellipsis_matmul", "...ij,...jk->...ik"),
        ("spaces", " b h i d , b h j d -> b h i j "),
        ("output_permuted", "bij,bjk->kbi"),
        ("two_contracted", "bhid,hdc->bic"),
        ("mixer", "btn,sn->bts"),
    ]:
        terms = eq.replace(" ", "").split("->")[0].split(",")
        args = [rnd(*(([2, 3] if "." in t else []) + [size[c] for c in t.replace(".", "")])) for t in terms]
        op(f"einsum_{name}", "Einsum", *args, equation=eq)
    for name, eq, shape in [
        ("transpose", "ij->ji", (3, 4)),
        ("unpatchify", "nhwpqc->nchpwq", (2, 2, 3, 2, 2, 3)),
        ("reduce", "bij->bj", (2, 3, 4)),
        ("reduce_all", "ij->", (3, 4)),
        ("diagonal", "ii->i", (4, 4)),
        ("trace", "ii->", (4, 4)),
        ("implicit_transpose", "ba", (3, 4)),
        ("ellipsis_transpose", "...ij->...ji", (2, 3, 4, 5)),
    ]:
        op(f"einsum_{name}", "Einsum", rnd(*shape), equation=eq)
    op("einsum_constant_weight", "Einsum", rnd(2, 5, 3, 4), C(rnd(3, 4, 6)), equation="bihd,hdc->bic")
    op("einsum_tails", "Einsum", rnd(1, 2, 19, 33), rnd(1, 2, 23, 33), equation="bhid,bhjd->bhij")


# --- softmax, attention, norms ----------------------------------------------


def softmax_attention():
    """Softmax, LogSoftmax, attention written out, and the Attention operator."""
    for kind, label in [("Softmax", "softmax"), ("LogSoftmax", "log_softmax")]:
        for axis in (-3, -2, -1, 0, 1, 2):
            op(f"{label}_axis{axis}".replace("-", "m"), kind, rnd(2, 5, 7, scale=3), axis=axis)
        op(f"{label}_default", kind, rnd(3, 4))
        op(f"{label}_opset11_default", kind, rnd(2, 3, 4), opset=11)
        op(f"{label}_opset11_axis2", kind, rnd(2, 3, 4), opset=11, axis=2)
        op(f"{label}_large", kind, np.array([[1000, 1001, 999], [-1000, 0, 1000]], F))
        op(f"{label}_tails", kind, rnd(3, 67), axis=-1)
    op("softmax_masked", "Softmax", np.array([[0, -INF, 1, 2], [1, 2, 3, -INF]], F))

    def attention(name, nodes, extra=None, inits=None, opset=17, q=(2, 2, 5, 8), kv=(2, 2, 7, 8)):
        feeds = dict(q=rnd(*q), k=rnd(*kv), v=rnd(*kv), **(extra or {}))
        graph(name, nodes, feeds, "y", inits, opset)

    plain = [N("Transpose", "k", "kt", perm=[0, 1, 3, 2]), N("MatMul", "q kt", "s")]
    end = [N("Softmax", "s2", "p", axis=-1), N("MatMul", "p v", "y")]
    scale = dict(c=F(8**-0.5))
    attention("sdpa_mul_after", plain + [N("Mul", "s c", "s2")] + end, inits=scale)
    attention("sdpa_div_after", plain + [N("Div", "s c", "s2")] + end, inits=dict(c=F(8**0.5)))
    attention(
        "sdpa_mul_before",
        [N("Transpose", "k", "kt", perm=[0, 1, 3, 2]), N("Mul", "q c", "qs"), N("Mul", "kt c", "ks"), N("MatMul", "qs ks", "s2")] + end,
        inits=dict(c=F(8**-0.25)),
    )
    attention("sdpa_float_mask", plain + [N("Mul", "s c", "s1"), N("Add", "s1 m", "s2")] + end, dict(m=rnd(2, 1, 5, 7)), scale)
    attention("sdpa_float_mask_2d", plain + [N("Mul", "s c", "s1"), N("Add", "s1 m", "s2")] + end, dict(m=rnd(5, 7)), scale)
    mask = bools(2, 1, 5, 7)
    mask[..., 0] = True
    attention(
        "sdpa_bool_mask",
        plain + [N("Mul", "s c", "s1"), N("Where", "m zero low", "w"), N("Add", "s1 w", "s2")] + end,
        dict(m=mask),
        dict(scale, zero=F(0), low=F(-INF)),
    )
    causal = [
        N("ConstantOfShape", "sh", "ones", value=numpy_helper.from_array(np.array([1], F))),
        N("Trilu", "ones", "tri", upper=0),
        N("Equal", "tri zero", "off"),
        N("Where", "off low tri2", "w"),
        N("Add", "s1 w", "s2"),
    ]
    attention(
        "sdpa_causal",
        plain + [N("Mul", "s c", "s1")] + causal + end,
        None,
        dict(scale, sh=i64(5, 7), zero=F(0), low=F(-INF), tri2=F(0)),
    )
    attention("sdpa_tails", plain + [N("Mul", "s c", "s2")] + end, None, dict(c=F(0.2)), q=(1, 3, 33, 17), kv=(1, 3, 29, 17))
    graph(
        "sdpa_dynamic_scale",
        [
            N("Shape", "q", "sh"),
            N("Gather", "sh last", "d"),
            N("Cast", "d", "df", to=TensorProto.FLOAT),
            N("Sqrt", "df", "r"),
            N("Div", "one r", "c"),
            N("Sqrt", "c", "c2"),
            N("Mul", "q c2", "qs"),
            N("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
            N("Mul", "kt c2", "ks"),
            N("MatMul", "qs ks", "s"),
            N("Softmax", "s", "p", axis=-1),
            N("MatMul", "p v", "y"),
        ],
        dict(q=rnd(1, 2, 5, 8), k=rnd(1, 2, 6, 8), v=rnd(1, 2, 6, 8)),
        "y",
        dict(last=I(-1), one=F(1)),
        dyn=True,
    )
    graph(
        "sdpa_heads_split_merge",
        [
            N("MatMul", "x w", "qkv"),
            N("Split", "qkv", "q k v", axis=-1),
            *[n for t in "qkv" for n in (N("Reshape", f"{t} sh", f"{t}4"), N("Transpose", f"{t}4", f"{t}t", perm=[0, 2, 1, 3] if t != "k" else [0, 2, 3, 1]))],
            N("MatMul", "qt kt", "s"),
            N("Mul", "s c", "s1"),
            N("Softmax", "s1", "p", axis=-1),
            N("MatMul", "p vt", "o"),
            N("Transpose", "o", "ot", perm=[0, 2, 1, 3]),
            N("Reshape", "ot sh2", "o2"),
            N("MatMul", "o2 w2", "y"),
        ],
        dict(x=rnd(2, 6, 12)),
        "y",
        dict(w=rnd(12, 36, scale=0.3), w2=rnd(12, 12, scale=0.3), sh=i64(0, 0, 3, 4), sh2=i64(0, 0, -1), c=F(0.5)),
    )
    A = lambda name, *args, **kw: op(f"attention_{name}", "Attention", *args, opset=23, **kw)
    q, k, v = rnd(2, 2, 5, 8), rnd(2, 2, 7, 8), rnd(2, 2, 7, 8)
    A("4d", q, k, v)
    A("4d_scale", q, k, v, scale=0.2)
    A("4d_causal", q, k, v, is_causal=1)
    A("4d_float_mask", q, k, v, rnd(5, 7))
    A("4d_float_mask_4d", q, k, v, rnd(2, 1, 5, 7))
    A("4d_bool_mask", q, k, v, mask)
    A("4d_softcap", q, k, v, softcap=2.0)
    A("4d_grouped_query", rnd(1, 4, 5, 8), rnd(1, 2, 7, 8), rnd(1, 2, 7, 8))
    A("4d_value_size", q, k, rnd(2, 2, 7, 6))
    A("3d", rnd(2, 5, 12), rnd(2, 7, 12), rnd(2, 7, 12), q_num_heads=3, kv_num_heads=3)
    A("3d_grouped_query", rnd(2, 5, 16), rnd(2, 7, 8), rnd(2, 7, 8), q_num_heads=4, kv_num_heads=2)


def norms():
    """Normalisation operators, and the same written out."""
    x4 = rnd(2, 6, 5, 3, scale=2, shift=0.5)
    op("group_norm_18", "GroupNormalization", x4, C(rnd(3)), C(rnd(3)), opset=18, num_groups=3)
    for g in (1, 2, 3, 6):
        op(f"group_norm_21_groups{g}", "GroupNormalization", x4, C(rnd(6)), C(rnd(6)), opset=21, num_groups=g)
    op("group_norm_21_1d", "GroupNormalization", rnd(2, 8, 11), C(rnd(8)), C(rnd(8)), opset=21, num_groups=4, epsilon=1e-3)
    op("group_norm_21_runtime", "GroupNormalization", rnd(1, 4, 3, 3), rnd(4), rnd(4), opset=21, num_groups=2)
    op("group_norm_21_mean10", "GroupNormalization", rnd(1, 4, 6, 6, shift=10), C(rnd(4)), C(rnd(4)), opset=21, num_groups=2)
    for name, shape in [("1d", (2, 3, 9)), ("2d", (2, 3, 4, 5)), ("one_pixel", (1, 4, 1, 1)), ("3d", (1, 2, 3, 4, 2))]:
        op(f"instance_norm_{name}", "InstanceNormalization", rnd(*shape, scale=2, shift=1), C(rnd(shape[1])), C(rnd(shape[1])))
    op("instance_norm_epsilon", "InstanceNormalization", rnd(1, 3, 4), C(rnd(3)), C(rnd(3)), epsilon=0.1)
    for axis in (-1, -2, 0, 1, 2):
        shape = (3, 4, 5)[axis if axis >= 0 else axis + 3 :]
        both(f"layer_norm_axis{axis}".replace("-", "m"), "LayerNormalization", rnd(3, 4, 5, shift=1), rnd(*shape), rnd(*shape), axis=axis)
    op("layer_norm_no_bias", "LayerNormalization", rnd(3, 4, 5), C(rnd(5)))
    op("layer_norm_epsilon", "LayerNormalization", rnd(3, 4, 5, scale=0.1), C(rnd(5)), C(rnd(5)), epsilon=1e-2)
    op("layer_norm_three_outputs", "LayerNormalization", rnd(2, 3, 5), C(rnd(5)), C(rnd(5)), n_out=3)
    op("layer_norm_tails", "LayerNormalization", rnd(5, 67), C(rnd(67)), C(rnd(67)))
    op("layer_norm_large_mean", "LayerNormalization", rnd(3, 16, shift=1000), C(rnd(16)), C(rnd(16)))
    for axis in (-1, 1):
        shape = (3, 4, 5)[axis if axis >= 0 else axis + 3 :]
        op(f"rms_norm_axis{axis}".replace("-", "m"), "RMSNormalization", rnd(3, 4, 5), C(rnd(*shape)), opset=23, axis=axis)
    op("rms_norm_epsilon_runtime", "RMSNormalization", rnd(2, 9), rnd(9), opset=23, epsilon=1e-2)
    graph(
        "rms_norm_decomposed",
        [
            N("Pow", "x two", "sq"),
            N("ReduceMean", "sq", "m", axes=[-1], keepdims=1),
            N("Add", "m eps", "me"),
            N("Sqrt", "me", "r"),
            N("Reciprocal", "r", "rr"),
            N("Mul", "x rr", "n"),
            N("Mul", "n w", "y"),
        ],
        dict(x=rnd(2, 3, 8)),
        "y",
        dict(two=F(2), eps=F(1e-6), w=rnd(8)),
    )
    graph(
        "rms_norm_decomposed_square_18",
        [
            N("Mul", "x x", "sq"),
            N("ReduceMean", "sq ax", "m", keepdims=1),
            N("Add", "m eps", "me"),
            N("Sqrt", "me", "r"),
            N("Div", "x r", "n"),
            N("Mul", "w n", "y"),
        ],
        dict(x=rnd(2, 3, 8)),
        "y",
        dict(ax=i64(-1), eps=F(1e-6), w=rnd(8)),
        opset=18,
    )
    group = [N("Reshape", "x sh", "r"), N("InstanceNormalization", "r one zero", "n", epsilon=1e-5)]
    tail = [N("Mul", "b w", "m"), N("Add", "m c", "y")]
    for name, shape, back in [("2d", (2, 6, 4, 3), [2, 6, 4, 3]), ("1d", (2, 6, 7), [2, 6, 7])]:
        ones = (6,) + (1,) * (len(shape) - 2)
        graph(
            f"group_norm_decomposed_{name}",
            group + [N("Reshape", "n back", "b")] + tail,
            dict(x=rnd(*shape, shift=1)),
            "y",
            dict(sh=i64(0, 3, -1), one=np.ones(3, F), zero=np.zeros(3, F), back=i64(*back), w=rnd(*ones), c=rnd(*ones)),
        )
    graph(
        "group_norm_decomposed_symbolic",
        group + [N("Shape", "x", "xs"), N("Reshape", "n xs", "b")] + tail,
        dict(x=rnd(2, 6, 4, 3, shift=1)),
        "y",
        dict(sh=i64(0, 2, -1), one=np.ones(2, F), zero=np.zeros(2, F), w=rnd(6, 1, 1), c=rnd(6, 1, 1)),
        dyn=True,
    )
    for square in ("pow", "mul"):
        graph(
            f"layer_norm_decomposed_{square}",
            [
                N("ReduceMean", "x", "mean", axes=[-1], keepdims=1),
                N("Sub", "x mean", "d"),
                N("Pow", "d two", "sq") if square == "pow" else N("Mul", "d d", "sq"),
                N("ReduceMean", "sq", "var", axes=[-1], keepdims=1),
                N("Add", "var eps", "ve"),
                N("Sqrt", "ve", "sd"),
                N("Div", "d sd", "n"),
                N("Mul", "n w", "nw"),
                N("Add", "nw c", "y"),
            ],
            dict(x=rnd(2, 3, 10, shift=1)),
            "y",
            dict(eps=F(1e-5), w=rnd(10), c=rnd(10), **(dict(two=F(2)) if square == "pow" else {})),
            opset=13,
        )
    for name, shape in [("0d", (4, 3)), ("1d", (2, 3, 5)), ("2d", (2, 3, 4, 5))]:
        op(f"batch_norm_{name}", "BatchNormalization", rnd(*shape), C(rnd(3)), C(rnd(3)), C(rnd(3)), C(pos(3)))
    op("batch_norm_epsilon_runtime", "BatchNormalization", rnd(2, 3, 4), rnd(3), rnd(3), rnd(3), pos(3), epsilon=0.1)
    for p, axis in itertools.product((1, 2), (-1, 0, 1)):
        op(f"lp_norm_p{p}_axis{axis}".replace("-", "m"), "LpNormalization", rnd(2, 3, 4), p=p, axis=axis)
    for name, attrs in [("default", {}), ("axes", dict(axes=[-1]))]:
        op(f"mean_variance_norm_{name}", "MeanVarianceNormalization", rnd(2, 3, 4, 3), **attrs)
    op("lrn", "LRN", rnd(1, 6, 3, 2), size=3, alpha=0.1, beta=0.5, bias=2.0)


# --- elementwise ------------------------------------------------------------


def elementwise_unary():
    """Activations and unary functions."""
    wide = np.concatenate([np.array([-100, -30, -10, -1, -0.5, -0.0, 0, 0.5, 1, 10, 30, 80], F), rnd(23, scale=2)])
    for kind in "Sigmoid Tanh Relu LeakyRelu Elu Selu Celu HardSigmoid HardSwish Softplus Softsign Mish ThresholdedRelu Neg Abs Sign Floor Ceil Sin Cos Erf Identity".split():
        op(f"{kind.lower()}", kind, wide.reshape(5, 7), opset=18)
    for kind, x in [
        ("Tan", rnd(3, 5, scale=0.5)),
        ("Asin", np.linspace(-1, 1, 15, dtype=F)),
        ("Acos", np.linspace(-1, 1, 15, dtype=F)),
        ("Atan", rnd(3, 5, scale=5)),
        ("Sinh", rnd(3, 5, scale=2)),
        ("Cosh", rnd(3, 5, scale=2)),
        ("Asinh", rnd(3, 5, scale=3)),
        ("Acosh", pos(3, 5, lo=1)),
        ("Atanh", pos(3, 5, lo=-0.9, hi=0.9)),
        ("Exp", rnd(3, 5, scale=8)),
        ("Log", pos(3, 5, lo=1e-3, hi=50)),
        ("Sqrt", pos(3, 5, hi=90)),
        ("Reciprocal", rnd(3, 5) + F(0.0007)),
    ]:
        op(kind.lower(), kind, x)
    op("exp_extremes", "Exp", np.array([-INF, -200, -90, -0.0, 88, 200, INF], F))
    op("log_zero", "Log", np.array([0, 1, INF], F))
    op("sin_large", "Sin", np.array([1e3, 12345.678, -9999.5, 3.1415927], F))
    op("cos_large", "Cos", np.array([1e3, 12345.678, -9999.5, 3.1415927], F))
    op("sigmoid_tails", "Sigmoid", rnd(3, 67, scale=4))
    op("tanh_scalar", "Tanh", F(0.75))
    op("sqrt_double", "Sqrt", np.array([2.0, 3.0]))
    op("exp_double", "Exp", np.array([1.0, -3.0]))
    half = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 2.4, 2.6, -2.6], F)
    op("round_half_even", "Round", half)
    op("round_double", "Round", half.astype(np.float64))
    odd = np.array([0, NAN, INF, -INF, 1, -1], F)
    op("isnan", "IsNaN", odd)
    op("isinf", "IsInf", odd)
    op("isinf_positive", "IsInf", odd, detect_negative=0)
    op("isinf_negative", "IsInf", odd, detect_positive=0)
    for kind, attrs in [
        ("LeakyRelu", dict(alpha=0.2)),
        ("Elu", dict(alpha=0.5)),
        ("Selu", dict(alpha=2.0, gamma=1.5)),
        ("Celu", dict(alpha=0.5)),
        ("HardSigmoid", dict(alpha=0.3, beta=0.4)),
        ("ThresholdedRelu", dict(alpha=0.5)),
    ]:
        op(f"{kind.lower()}_attributes", kind, rnd(3, 4, scale=2), opset=17, **attrs)
    for kind in "Neg Abs Sign".split():
        op(f"{kind.lower()}_int64", kind, ints(3, 4))
    op("relu_int32", "Relu", ints(3, 4, dtype=np.int32))
    op("abs_int32", "Abs", ints(3, 4, dtype=np.int32))
    op("neg_double", "Neg", rnd(3, dtype=np.float64))
    for name, s in [("scalar", (1,)), ("channel", (4, 1, 1)), ("full", (4, 3, 2)), ("last", (2,))]:
        both(f"prelu_{name}", "PRelu", rnd(2, 4, 3, 2), rnd(*s))
    op("gelu", "Gelu", wide, opset=20)
    op("gelu_none", "Gelu", rnd(3, 5, scale=2), opset=20, approximate="none")
    op("gelu_tanh", "Gelu", wide, opset=20, approximate="tanh")
    graph(
        "gelu_decomposed_erf",
        [N("Div", "x r", "a"), N("Erf", "a", "e"), N("Add", "e one", "b"), N("Mul", "x b", "c"), N("Mul", "c h", "y")],
        dict(x=rnd(3, 7, scale=2)),
        "y",
        dict(r=F(2**0.5), one=F(1), h=F(0.5)),
    )
    graph(
        "gelu_decomposed_tanh",
        [
            N("Pow", "x three", "p"),
            N("Mul", "p k", "pk"),
            N("Add", "x pk", "a"),
            N("Mul", "a s", "b"),
            N("Tanh", "b", "t"),
            N("Add", "t one", "t1"),
            N("Mul", "x h", "xh"),
            N("Mul", "xh t1", "y"),
        ],
        dict(x=rnd(3, 7, scale=2)),
        "y",
        dict(three=F(3), k=F(0.044715), s=F((2 / np.pi) ** 0.5), one=F(1), h=F(0.5)),
    )
    graph("silu_decomposed", [N("Sigmoid", "x", "s"), N("Mul", "x s", "y")], dict(x=rnd(3, 7, scale=3)), "y")
    graph("mish_decomposed", [N("Softplus", "x", "s"), N("Tanh", "s", "t"), N("Mul", "x t", "y")], dict(x=rnd(3, 7, scale=3)), "y")
    x = rnd(3, 4, scale=3)
    both("clip_both", "Clip", x, F(-1), F(1.5))
    op("clip_min", "Clip", x, C(F(-1)))
    op("clip_max", "Clip", x, None, C(F(1.5)))
    op("clip_none", "Clip", x)
    op("clip_int64", "Clip", ints(3, 4), C(I(-3)), C(I(4)))
    op("clip_opset6", "Clip", x, opset=6, min=-0.5, max=2.0)
    op("clip_min_above_max", "Clip", x, C(F(1)), C(F(-1)))
    both("pow_scalar", "Pow", pos(3, 4), F(1.7))
    both("pow_square", "Pow", rnd(3, 4), F(2))
    both("pow_cube", "Pow", rnd(3, 4), F(3))
    op("pow_half", "Pow", pos(3, 4), C(F(0.5)))
    op("pow_minus_half", "Pow", pos(3, 4), C(F(-0.5)))
    both("pow_broadcast", "Pow", pos(3, 4), rnd(4))
    op("pow_constant_base", "Pow", C(F(10000)), rnd(5, scale=0.5))
    op("pow_float_int64", "Pow", rnd(3, 4), C(I(3)))
    op("pow_int64", "Pow", ints(3, 4), C(I(2)))
    op("dropout_inference", "Dropout", x)
    op("dropout_ratio_training_false", "Dropout", x, C(F(0.3)), C(np.array(False)))
    op("dropout_mask", "Dropout", x, n_out=2)
    op("dropout_opset7", "Dropout", x, opset=7, ratio=0.3)


def elementwise_binary():
    """Arithmetic, comparison and logic with broadcasting."""
    shapes = [
        ("same", (3, 4), (3, 4)),
        ("scalar", (3, 4), ()),
        ("row", (2, 3, 4), (4,)),
        ("column", (2, 3, 4), (3, 1)),
        ("channel", (2, 3, 4, 2), (1, 3, 1, 1)),
        ("outer", (3, 1), (1, 4)),
        ("left", (4,), (2, 3, 4)),
        ("both", (2, 1, 4, 1), (3, 1, 5)),
        ("batch", (2, 3, 4), (2, 1, 1)),
    ]
    for kind in "Add Sub Mul Div".split():
        for name, a, b in shapes:
            x, w = rnd(*a), rnd(*b) + F(0.0007)
            if name in ("same", "scalar", "channel"):
                both(f"{kind.lower()}_{name}", kind, x, w)
            else:
                op(f"{kind.lower()}_{name}", kind, x, w)
        op(f"{kind.lower()}_constant_first", kind, C(F(2)), rnd(3, 4) + F(0.0007))
        op(f"{kind.lower()}_tails", kind, rnd(3, 67), rnd(67) + F(0.0007))
        op(f"{kind.lower()}_int64", kind, ints(3, 4), C(ints(4, lo=1)))
        op(f"{kind.lower()}_int32", kind, ints(3, 4, dtype=np.int32), ints(4, lo=1, dtype=np.int32))
        op(f"{kind.lower()}_double", kind, rnd(3, dtype=np.float64), pos(3).astype(np.float64))
    a, b = i64(7, -7, 7, -7, 6, -6, 0, 1), i64(3, 3, -3, -3, 3, -3, 5, -2)
    op("div_int64_signs", "Div", a, b)
    op("div_int32_signs", "Div", a.astype(np.int32), b.astype(np.int32))
    op("div_zero", "Div", np.array([1, -1, 0], F), np.zeros(3, F))
    op("mod_int64_signs", "Mod", a, b)
    op("mod_int32_signs", "Mod", a.astype(np.int32), b.astype(np.int32))
    op("mod_int64_fmod", "Mod", a, b, fmod=1)
    op("mod_float_fmod", "Mod", np.array([5.5, -5.5, 5.5, -5.5], F), np.array([2, 2, -2, -2], F), fmod=1)
    op("mod_int64_broadcast", "Mod", ints(2, 3), C(I(4)))
    for kind in "Min Max Mean Sum".split():
        k = kind.lower()
        op(f"{k}_one", kind, rnd(2, 3))
        op(f"{k}_two", kind, rnd(2, 3), rnd(3))
        op(f"{k}_three_broadcast", kind, rnd(2, 1, 3), C(rnd(4, 1)), rnd(1))
        op(f"{k}_four", kind, rnd(2, 3), rnd(2, 3), rnd(2, 3), C(F(0.5)))
        if kind in ("Min", "Max"):
            op(f"{k}_int64", kind, ints(2, 3), C(ints(3)))
            op(f"{k}_int32", kind, ints(2, 3, dtype=np.int32), ints(2, 3, dtype=np.int32))
    for kind in "Equal Less Greater LessOrEqual GreaterOrEqual".split():
        x = ints(3, 4, lo=-2, hi=3)
        op(f"{kind.lower()}_float", kind, x.astype(F), C(F(0)))
        op(f"{kind.lower()}_float_broadcast", kind, x.astype(F), ints(3, 1, lo=-2, hi=3).astype(F))
        op(f"{kind.lower()}_int64", kind, x, C(ints(4, lo=-2, hi=3)))
        op(f"{kind.lower()}_int32", kind, x.astype(np.int32), ints(4, lo=-2, hi=3, dtype=np.int32))
    op("equal_bool", "Equal", bools(3, 4), bools(4))
    op("less_nan", "Less", np.array([NAN, 1, 2], F), np.array([1, NAN, 3], F))
    for kind in "And Or Xor".split():
        op(kind.lower(), kind, bools(3, 4), bools(3, 4))
        op(kind.lower() + "_broadcast", kind, bools(2, 1, 4), C(bools(3, 1)))
    op("not", "Not", bools(3, 4))
    m = bools(3, 4)
    op("where_same", "Where", m, rnd(3, 4), rnd(3, 4))
    op("where_scalars", "Where", m, C(F(0)), C(F(-INF)))
    op("where_scalar_else", "Where", m, rnd(3, 4), C(F(-1)))
    op("where_broadcast", "Where", bools(2, 1, 4), rnd(3, 1), C(rnd(1, 1, 4)))
    op("where_constant_mask", "Where", C(m), rnd(3, 4), rnd(4))
    op("where_int64", "Where", m, ints(3, 4), C(I(-1)))
    op("where_bool", "Where", m, bools(3, 4), C(np.array(False)))
    op("where_double", "Where", m, rnd(3, 4, dtype=np.float64), C(np.float64(2)))


def casts():
    """Cast and CastLike."""
    x = np.array([[-3.7, -1.0, -0.5, 0.0], [0.5, 1.0, 2.9, 100.25]], F)
    T = TensorProto
    for name, to in [("float", T.FLOAT), ("int64", T.INT64), ("int32", T.INT32), ("bool", T.BOOL), ("float16", T.FLOAT16), ("double", T.DOUBLE)]:
        op(f"cast_float_{name}", "Cast", x, to=to)
        op(f"cast_int64_{name}", "Cast", ints(2, 3, lo=-3, hi=4), to=to)
        op(f"cast_bool_{name}", "Cast", bools(2, 3), to=to)
        op(f"cast_int32_{name}", "Cast", ints(2, 3, lo=-3, hi=4, dtype=np.int32), to=to)
        op(f"cast_float16_{name}", "Cast", x.astype(np.float16), to=to)
        op(f"cast_double_{name}", "Cast", x.astype(np.float64), to=to)
        op(f"cast_uint8_{name}", "Cast", ints(2, 3, lo=0, hi=200, dtype=np.uint8), to=to)
    op("cast_float_uint8", "Cast", np.abs(x), to=T.UINT8)
    op("cast_int64_uint8", "Cast", ints(2, 3, lo=0, hi=250), to=T.UINT8)
    fine = np.array([1 / 3, 1e-8, 6e-8, 1e-5, 65504, 70000, -2049, 0.1, 2049, 2051], F)
    op("cast_float_float16_rounding", "Cast", fine, to=T.FLOAT16)
    with np.errstate(over="ignore"):
        op("cast_float16_float_special", "Cast", np.array([6e-8, 1e-5, 65504, INF, -INF, -0.0, 0.1], np.float16), to=T.FLOAT)
    op("cast_int64_large_float", "Cast", i64(16777217, -16777219, 2**40 + 1), to=T.FLOAT)
    op("cast_like_int64", "CastLike", x, C(i64(1)))
    op("cast_like_float", "CastLike", ints(2, 3), rnd(1))
    op("cast_like_bool", "CastLike", x, C(np.array(True)))
    graph(
        "fp16_initialiser_cast",
        [N("Cast", "w", "wf", to=T.FLOAT), N("MatMul", "x wf", "m"), N("Cast", "b", "bf", to=T.FLOAT), N("Add", "m bf", "y")],
        dict(x=rnd(3, 5)),
        "y",
        dict(w=rnd(5, 4).astype(np.float16), b=rnd(4).astype(np.float16)),
    )
    graph(
        "fp16_round_trip",
        [N("Cast", "x", "h", to=T.FLOAT16), N("Cast", "h", "f", to=T.FLOAT), N("Mul", "f c", "y")],
        dict(x=rnd(3, 5) / F(3)),
        "y",
        dict(c=F(3)),
    )
    graph(
        "fp16_typed_field_initialiser_cast",
        [N("Cast", "w", "wf", to=T.FLOAT), N("Add", "x wf", "y")],
        dict(x=rnd(3)),
        "y",
        dict(w=C(np.array([1 / 3, -2.5, 1e-6], np.float16), raw=False)),
    )
    op("fp16_add", "Add", rnd(2, 3).astype(np.float16), rnd(3).astype(np.float16))
    op("fp16_matmul", "MatMul", rnd(2, 3).astype(np.float16), C(rnd(3, 4).astype(np.float16)))


# --- reductions ---------------------------------------------------------------


def reductions():
    """Reduce*, ArgMax, ArgMin and TopK."""
    kinds = "Sum Mean Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split()
    for kind in kinds:
        x = pos(2, 3, 4) if kind in ("LogSum", "Prod") else rnd(2, 3, 4)
        full, k = f"Reduce{kind}", f"reduce_{kind.lower()}"
        attr = 11 if kind == "Sum" else 17
        op(f"{k}_all_attribute", full, x, opset=attr)
        op(f"{k}_axes_attribute", full, x, opset=attr, axes=[1])
        op(f"{k}_axes_attribute_drop", full, x, opset=attr, axes=[-1, 0], keepdims=0)
        op(f"{k}_axes_input", full, x, C(i64(-1)), opset=18)
        op(f"{k}_axes_input_drop", full, x, C(i64(0, 2)), opset=18, keepdims=0)
        op(f"{k}_axes_input_runtime", full, x, i64(1), opset=18, keepdims=0)
        op(f"{k}_all", full, x, opset=18, keepdims=0)
        op(f"{k}_empty_axes", full, x, C(np.zeros(0, I)), opset=18)
        op(f"{k}_noop", full, x, C(np.zeros(0, I)), opset=18, noop_with_empty_axes=1)
        op(f"{k}_spatial", full, x.reshape(1, 2, 3, 4), C(i64(2, 3)), opset=18)
    for kind in ("Sum", "Max", "Min", "Prod", "Mean"):
        op(f"reduce_{kind.lower()}_int64", f"Reduce{kind}", ints(3, 4, lo=1), C(i64(1)), opset=18, keepdims=0)
    op("reduce_sum_int32", "ReduceSum", ints(3, 4, dtype=np.int32), C(i64(0)), opset=18)
    op("reduce_mean_double", "ReduceMean", rnd(3, 4, dtype=np.float64), C(i64(0)), opset=18)
    op("reduce_sum_scalar", "ReduceSum", F(2.5), opset=18)
    op("reduce_max_bool", "ReduceMax", bools(3, 4), C(i64(1)), opset=20)
    op("reduce_logsumexp_large", "ReduceLogSumExp", np.array([[1000, 1001], [-1000, -999]], F), C(i64(1)), opset=18)
    op("reduce_mean_tails", "ReduceMean", rnd(5, 131), C(i64(-1)), opset=18)
    op("reduce_sum_middle_tails", "ReduceSum", rnd(3, 17, 19), C(i64(1)), opset=18)
    for kind in ("ArgMax", "ArgMin"):
        k, x = kind.lower(), ints(3, 5, 4, lo=0, hi=4).astype(F)
        for axis in (0, 1, -1):
            op(f"{k}_axis{axis}".replace("-", "m"), kind, x, axis=axis)
        op(f"{k}_drop", kind, x, axis=1, keepdims=0)
        op(f"{k}_last_index", kind, x, axis=1, select_last_index=1)
        op(f"{k}_default", kind, x)
    op("argmax_int64", "ArgMax", ints(3, 5), axis=1)
    x = rng.permutation(60).astype(F).reshape(3, 4, 5)
    op("topk_last", "TopK", x, C(i64(3)), n_out=2)
    op("topk_axis1_smallest", "TopK", x, C(i64(2)), n_out=2, axis=1, largest=0)
    op("topk_runtime_k", "TopK", x, i64(2), n_out=2, axis=0)
    op("topk_ties", "TopK", ints(2, 8, lo=0, hi=3).astype(F), C(i64(4)), n_out=2)
    op("topk_int64", "TopK", rng.permutation(10).astype(I), C(i64(4)), n_out=2)


# --- shapes and data movement ---------------------------------------------------


def movement():
    """Concat, Split, Slice, Pad, Transpose, Reshape and their kin."""
    for axis in (0, 1, -1):
        shape = [2, 3, 4]
        parts = []
        for n in (1, 3, 2):
            shape[axis] = n
            parts.append(rnd(*shape))
        op(f"concat_axis{axis}".replace("-", "m"), "Concat", *parts, axis=axis)
    op("concat_one", "Concat", rnd(2, 3), axis=1)
    op("concat_with_constant", "Concat", rnd(2, 3), C(rnd(2, 2)), axis=1)
    op("concat_int64", "Concat", i64(1, 2), C(i64(3)), axis=0)
    op("concat_bool", "Concat", bools(2, 2), bools(1, 2), axis=0)
    op("concat_empty_part", "Concat", rnd(2, 3), C(np.zeros((2, 0), F)), axis=1)
    op("concat_channels", "Concat", rnd(2, 3, 2, 2), rnd(2, 2, 2, 2), axis=1)
    x = rnd(4, 6, 3)
    op("split_equal", "Split", x, n_out=3, axis=1)
    op("split_default_axis", "Split", x, n_out=2)
    op("split_sizes", "Split", x, C(i64(1, 2, 3)), n_out=3, axis=1)
    op("split_sizes_runtime", "Split", x, i64(4, 2), n_out=2, axis=1)
    op("split_sizes_negative_axis", "Split", x, C(i64(1, 2)), n_out=2, axis=-1)
    op("split_sizes_attribute_11", "Split", x, n_out=2, axis=1, opset=11, split=[2, 4])
    op("split_num_outputs", "Split", x, n_out=3, axis=1, num_outputs=3, opset=18)
    op("split_num_outputs_uneven", "Split", rnd(2, 7), n_out=3, axis=1, num_outputs=3, opset=18)
    op("split_int64", "Split", ints(6), C(i64(2, 4)), n_out=2)

    x = rnd(5, 6, 7)
    S = lambda name, *v, x=x: both(f"slice_{name}", "Slice", x, *(None if a is None else np.array(a, I) for a in v))
    S("basic", [1, 2], [4, 5], [0, 2])
    S("steps", [0, 1], [5, 7], [0, 2], [2, 3])
    S("negative_steps", [4, -1], [0, -8], [0, 2], [-1, -2])
    S("reverse_all", [-1], [-(2**62)], [1], [-1])
    S("ends_beyond", [2], [2**62], [1])
    S("int64_max_end", [1], [2**63 - 1], [-1], [1])
    S("negative_indices", [-3], [-1], [0])
    S("negative_axes", [0], [3], [-2])
    S("axes_missing", [1, 0, 2], [3, 2, 6])
    S("axes_missing_steps", [1, 0, 2], [5, 6, 7], None, [2, 3, 2])
    S("empty", [3], [3], [0])
    S("start_beyond", [9], [12], [0])
    S("start_before", [-99], [2], [0])
    op("slice_int32_indices", "Slice", x, C(np.array([1], np.int32)), C(np.array([4], np.int32)), C(np.array([1], np.int32)))
    op("slice_attributes_9", "Slice", x, opset=9, starts=[1, -3], ends=[4, 99], axes=[0, 2])
    op("slice_attributes_9_no_axes", "Slice", x, opset=9, starts=[1, 2], ends=[4, 5])
    op("slice_int64", "Slice", ints(8), C(i64(-3)), C(i64(8)))
    op("slice_bool", "Slice", bools(4, 3), C(i64(1)), C(i64(3)), C(i64(1)))

    x = rnd(2, 3, 4)
    P = lambda name, pads, *rest, x=x, **kw: both(f"pad_{name}", "Pad", x, np.array(pads, I), *rest, **kw)
    P("constant", [0, 1, 2, 1, 0, 1])
    P("constant_value", [0, 1, 2, 1, 0, 1], F(1.5))
    P("negative", [0, -1, 0, 0, 0, -2], F(0.5))
    P("negative_and_positive", [0, -1, 2, 0, 1, -2])
    P("reflect", [0, 1, 2, 0, 2, 3], mode="reflect")
    P("edge", [1, 1, 2, 0, 2, 5], mode="edge")
    P("wrap", [0, 1, 2, 0, 2, 3], mode="wrap", opset=19)
    P("axes", [1, 2, 0, 1], F(2), i64(1, 2), opset=18)
    P("axes_negative", [3, 1], F(0), i64(-1), opset=18)
    P("axes_reflect", [2, 1], None, i64(-1), opset=18, mode="reflect")
    P("zero", [0] * 6)
    P("2d_image_reflect", [0, 0, 1, 1, 0, 0, 1, 1], x=rnd(1, 2, 3, 4), mode="reflect")
    P("int64", [1, 2], I(7), x=ints(3))
    P("bool", [1, 2], np.array(True), x=bools(3), opset=18)
    op("pad_attributes_2", "Pad", x, opset=2, pads=[0, 1, 0, 0, 1, 2], value=0.5)
    op("pad_attributes_2_reflect", "Pad", x, opset=2, pads=[0, 1, 0, 0, 1, 2], mode="reflect")

    for perm in [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 1, 2)]:
        op("transpose_" + "".join(map(str, perm)), "Transpose", x, perm=perm)
    for perm in [(0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 1, 2), (3, 1, 0, 2), (0, 1, 3, 2), (2, 3, 0, 1)]:
        op("transpose_" + "".join(map(str, perm)), "Transpose", rnd(2, 3, 4, 5), perm=perm)
    op("transpose_024135", "Transpose", rnd(2, 2, 3, 2, 3, 2), perm=(0, 5, 1, 3, 2, 4))
    op("transpose_default", "Transpose", x)
    op("transpose_tails", "Transpose", rnd(37, 19), perm=(1, 0))
    op("transpose_int64", "Transpose", ints(2, 3), perm=(1, 0))
    op("transpose_scalar", "Transpose", F(1.5))

    R = lambda name, shape, x=x, **kw: both(f"reshape_{name}", "Reshape", x, np.array(shape, I), **kw)
    R("plain", [4, 6])
    R("infer", [3, -1])
    R("zero", [0, -1])
    R("zero_middle", [0, 0, 2, 2])
    R("flat", [-1])
    R("to_scalar", [], x=rnd(1))
    R("allowzero", [0, 3], x=np.zeros((0, 3), F), allowzero=1)
    R("allowzero_no_zero", [2, 12], allowzero=1)
    R("empty", [0, 4], x=np.zeros((0, 2), F))
    R("int64", [2, -1], x=ints(6))
    op("reshape_attribute_1", "Reshape", x, opset=1, shape=[6, 4])
    for axis in (0, 1, 2, 3, -1):
        op(f"flatten_axis{axis}".replace("-", "m"), "Flatten", x, axis=axis)
    op("flatten_default", "Flatten", rnd(2, 3, 2, 2))
    x = rnd(1, 3, 1, 4)
    both("squeeze_axes", "Squeeze", x, i64(0))
    both("squeeze_axes_negative", "Squeeze", x, i64(-2, 0))
    op("squeeze_all", "Squeeze", x)
    op("squeeze_attribute_11", "Squeeze", x, opset=11, axes=[0, 2])
    x = rnd(3, 4)
    both("unsqueeze_axes", "Unsqueeze", x, i64(0))
    both("unsqueeze_two", "Unsqueeze", x, i64(3, 0))
    both("unsqueeze_negative", "Unsqueeze", x, i64(-1, 1))
    op("unsqueeze_scalar", "Unsqueeze", I(5), C(i64(0)))
    op("unsqueeze_scalar_axis", "Unsqueeze", x, C(I(1)))
    op("unsqueeze_attribute_11", "Unsqueeze", x, opset=11, axes=[0, 3])
    x = rnd(3, 1, 2)
    both("expand_plain", "Expand", x, i64(3, 4, 2))
    both("expand_more_dims", "Expand", x, i64(2, 3, 4, 2))
    both("expand_ones", "Expand", x, i64(1, 1, 1))
    both("expand_smaller_rank", "Expand", x, i64(4, 1))
    op("expand_scalar", "Expand", F(2.5), C(i64(2, 3)))
    op("expand_int64", "Expand", i64(1), C(i64(4)))
    op("expand_bool", "Expand", bools(1, 3), C(i64(2, 3)))
    both("tile_plain", "Tile", rnd(2, 3), i64(2, 2))
    both("tile_ones", "Tile", rnd(2, 3), i64(1, 1))
    both("tile_3d", "Tile", rnd(1, 2, 3), i64(3, 1, 2))
    op("tile_int64", "Tile", ints(3), C(i64(2)))
    for mode in ("DCR", "CRD"):
        op(f"depth_to_space_{mode.lower()}", "DepthToSpace", rnd(2, 8, 2, 3), blocksize=2, mode=mode)
    op("depth_to_space_3", "DepthToSpace", rnd(1, 9, 2, 2), blocksize=3)
    op("space_to_depth", "SpaceToDepth", rnd(2, 3, 4, 6), blocksize=2)
    op("space_to_depth_3", "SpaceToDepth", rnd(1, 1, 3, 6), blocksize=3)


def indexing():
    """Gather, Scatter and their kin."""
    x = rnd(5, 4, 3)
    for axis in (0, 1, -1):
        n = f"{axis}".replace("-", "m")
        both(f"gather_axis{n}", "Gather", x, i64(0, 2, 1), axis=axis)
        both(f"gather_scalar_axis{n}", "Gather", x, I(1), axis=axis)
        both(f"gather_2d_axis{n}", "Gather", x, np.array([[0, -1], [-2, 1]], I), axis=axis)
    op("gather_int32_indices", "Gather", x, C(np.array([3, -5], np.int32)))
    op("gather_embedding", "Gather", C(rnd(10, 6)), i64(3, 9))
    op("gather_embedding_2d", "Gather", C(rnd(10, 6)), np.array([[3, 9, 0], [1, 1, 2]], I))
    op("gather_shape_vector", "Gather", ints(4), C(I(-1)))
    op("gather_bool", "Gather", bools(4), C(i64(1, 3)))
    for axis in (0, 1, -1):
        n = f"{axis}".replace("-", "m")
        idx = ints(2, 3, 3, lo=-3, hi=3)
        both(f"gather_elements_axis{n}", "GatherElements", rnd(4, 5, 3), idx, axis=axis)
        both(f"scatter_elements_axis{n}", "ScatterElements", rnd(4, 5, 3), np.argsort(rng.random((2, 3, 3)), axis=axis).astype(I), rnd(2, 3, 3), axis=axis)
    for red in ("add", "mul", "max", "min"):
        op(f"scatter_elements_{red}", "ScatterElements", rnd(4, 3), C(np.array([[0, 0, 1], [0, -1, 1]], I)), rnd(2, 3), opset=18, reduction=red)
        op(f"scatter_nd_{red}", "ScatterND", rnd(4, 3), C(np.array([[0], [2], [0]], I)), rnd(3, 3), opset=18, reduction=red)
    x = rnd(3, 4, 5)
    both("gather_nd_1", "GatherND", x, np.array([[0], [-1]], I))
    both("gather_nd_2", "GatherND", x, np.array([[0, 1], [2, -3]], I))
    both("gather_nd_3", "GatherND", x, np.array([[[0, 1, 2]], [[2, 3, 4]]], I))
    both("gather_nd_batch1", "GatherND", x, np.array([[1], [0], [3]], I), batch_dims=1)
    both("gather_nd_batch2", "GatherND", rnd(2, 3, 4), ints(2, 3, 1, lo=0, hi=4), batch_dims=2)
    both("scatter_nd_1", "ScatterND", rnd(4, 3), np.array([[1], [3]], I), rnd(2, 3))
    both("scatter_nd_2", "ScatterND", rnd(4, 3), np.array([[1, 2], [3, -1], [0, 0]], I), rnd(3))
    both("scatter_nd_block", "ScatterND", rnd(2, 3, 4), np.array([[[0, 1]], [[1, 2]]], I), rnd(2, 1, 4))
    op("scatter_nd_int64", "ScatterND", ints(5), C(np.array([[4], [0]], I)), i64(7, 8))
    op("scatter_11_elements", "Scatter", rnd(4, 3), C(np.array([[0, 2, 1]], I)), rnd(1, 3), opset=9)
    for name, attrs, depth, vals in [
        ("last", {}, I(4), np.array([0, 1], F)),
        ("axis0", dict(axis=0), I(4), np.array([0, 1], F)),
        ("axis1_values", dict(axis=1), i64(5), np.array([-1, 2.5], F)),
        ("int64", {}, I(3), i64(0, 1)),
    ]:
        both(f"one_hot_{name}", "OneHot", np.array([[0, 2], [-1, 1]], I), depth, vals, **attrs)
    op("one_hot_out_of_range", "OneHot", i64(0, 7, -9), C(I(3)), C(np.array([0, 1], F)))
    op("eye_like", "EyeLike", rnd(3, 4))
    op("eye_like_k1", "EyeLike", rnd(4, 3), k=1)
    op("eye_like_km1_int64", "EyeLike", rnd(4, 4), k=-1, dtype=TensorProto.INT64)
    op("nonzero_float", "NonZero", np.array([[0, 1.5, 0], [-2, 0, 3]], F))
    op("nonzero_bool", "NonZero", bools(3, 4))
    op("nonzero_int64", "NonZero", i64(0, 3, 0, 1))
    for upper, k in itertools.product((0, 1), (None, -1, 0, 2)):
        extra = [] if k is None else [C(I(k))]
        op(f"trilu_upper{upper}" + (f"_k{k}".replace("-", "m") if extra else ""), "Trilu", rnd(2, 4, 5), *extra, upper=upper)
    op("trilu_runtime_k", "Trilu", rnd(4, 4), I(1))
    op("trilu_int64", "Trilu", ints(3, 3), upper=0)
    op("trilu_bool", "Trilu", bools(4, 4), upper=0)
    op("trilu_far_k", "Trilu", rnd(3, 4), C(I(9)))
    for name, attrs in [("plain", {}), ("exclusive", dict(exclusive=1)), ("reverse", dict(reverse=1)), ("both", dict(exclusive=1, reverse=1))]:
        both(f"cumsum_{name}", "CumSum", rnd(2, 3, 4), I(1), **attrs)
    op("cumsum_negative_axis", "CumSum", rnd(2, 3), C(I(-1)))
    op("cumsum_int64", "CumSum", ints(5), C(I(0)))
    op("reverse_sequence", "ReverseSequence", rnd(4, 3, 2), C(i64(1, 4, 2)), time_axis=0, batch_axis=1)


def shapes_and_constants():
    """Shape arithmetic, constants, control flow, storage forms."""
    x = rnd(2, 3, 4)
    op("shape", "Shape", x)
    op("shape_start", "Shape", x, start=1)
    op("shape_start_end", "Shape", x, start=-2, end=-1)
    op("shape_clamped", "Shape", x, start=-9, end=9)
    op("shape_symbolic", "Shape", x, dyn=True)
    op("size", "Size", x)
    one = lambda a: numpy_helper.from_array(np.array([a]))
    for name, v in [("default", None), ("float", F(2.5)), ("int64", I(-3)), ("bool", True), ("int32", np.int32(4))]:
        attrs = {} if v is None else dict(value=one(v))
        both_ = i64(2, 3)
        op(f"constant_of_shape_{name}", "ConstantOfShape", C(both_), **attrs)
        op(f"constant_of_shape_{name}_runtime", "ConstantOfShape", both_, **attrs)
    op("constant_of_shape_scalar", "ConstantOfShape", C(np.zeros(0, I)), value=one(F(1)))
    for name, a in [
        ("int64", (I(2), I(9), I(3))),
        ("int64_down", (I(5), I(-4), I(-2))),
        ("int64_empty", (I(5), I(2), I(1))),
        ("float", (F(0), F(1), F(0.25))),
        ("float_uneven", (F(1), F(-0.7), F(-0.5))),
        ("int32", (np.int32(0), np.int32(5), np.int32(2))),
    ]:
        both(f"range_{name}", "Range", *a)
        op(f"range_{name}_constant", "Range", *map(C, a))
    for name, attrs in [
        ("value", dict(value=numpy_helper.from_array(rnd(2, 2)))),
        ("value_int64", dict(value=numpy_helper.from_array(ints(3)))),
        ("value_float", dict(value_float=1.5)),
        ("value_floats", dict(value_floats=[1.5, -2.0])),
        ("value_int", dict(value_int=7)),
        ("value_ints", dict(value_ints=[7, -8])),
    ]:
        op(f"constant_{name}", "Constant", **attrs)
    graph("constant_added", [N("Constant", "", "c", value_float=1.5), N("Add", "x c", "y")], dict(x=x), "y")

    # reshape to a shape computed from the input
    graph(
        "reshape_from_shape",
        [
            N("Shape", "x", "s"),
            N("Gather", "s zero", "b"),
            N("Unsqueeze", "b ax", "b1"),
            N("Concat", "b1 rest", "t", axis=0),
            N("Reshape", "x t", "y"),
        ],
        dict(x=x),
        "y",
        dict(zero=I(0), ax=i64(0), rest=i64(-1)),
        dyn=True,
    )
    graph(
        "reshape_from_shape_product",
        [
            N("Shape", "x", "s"),
            *[N("Gather", f"s i{i}", f"d{i}") for i in range(3)],
            N("Mul", "d1 d2", "m"),
            N("Unsqueeze", "d0 ax", "u0"),
            N("Unsqueeze", "m ax", "u1"),
            N("Concat", "u0 u1", "t", axis=0),
            N("Reshape", "x t", "y"),
        ],
        dict(x=x),
        "y",
        dict(i0=I(0), i1=I(1), i2=I(2), ax=i64(0)),
        dyn=True,
    )
    graph(
        "reshape_heads_from_shape",
        [
            N("Shape", "x", "s"),
            N("Gather", "s i2", "d"),
            N("Div", "d heads", "hd"),
            N("Cast", "hd", "hc", to=TensorProto.INT64),
            N("Unsqueeze", "hc ax", "u"),
            N("Concat", "b m one u", "t", axis=0),
            N("Reshape", "x t", "r"),
            N("Transpose", "r", "y", perm=[0, 2, 1, 3]),
        ],
        dict(x=rnd(2, 3, 8)),
        "y",
        dict(i2=I(2), heads=I(2), ax=i64(0), b=i64(0), m=i64(0), one=i64(2)),
        dyn=True,
    )
    graph(
        "slice_half_from_shape",
        [
            N("Shape", "x", "s"),
            N("Gather", "s i", "d"),
            N("Add", "d one", "d1"),
            N("Div", "d1 two", "h"),
            N("Mul", "h k1", "e"),
            N("Slice", "x st e ax", "a"),
            N("Mul", "h k2", "e2"),
            N("Slice", "x e e2 ax", "b"),
            N("Sigmoid", "b", "g"),
            N("Mul", "a g", "y"),
        ],
        dict(x=rnd(2, 6, 3)),
        "y",
        dict(i=i64(1), one=i64(0), two=i64(2), k1=i64(1), k2=i64(2), st=i64(0), ax=i64(1)),
        dyn=True,
    )
    graph(
        "expand_from_shape",
        [N("Shape", "x", "s", start=0, end=1), N("Concat", "s r", "t", axis=0), N("Expand", "w t", "e"), N("Add", "x e", "y")],
        dict(x=x),
        "y",
        dict(w=rnd(1, 3, 4), r=i64(3, 4)),
        dyn=True,
    )
    graph(
        "expand_where_minus_one",
        [
            N("Shape", "w", "ws"),
            N("ConstantOfShape", "n", "ones", value=numpy_helper.from_array(i64(1))),
            N("Mul", "ones m1", "neg"),
            N("Equal", "t neg", "eq"),
            N("Where", "eq ones t", "tt"),
            N("Expand", "w tt", "y"),
        ],
        dict(w=rnd(1, 3, 4)),
        "y",
        dict(n=i64(3), m1=I(-1), t=i64(2, -1, -1)),
    )
    graph(
        "resize_to_shape_of_other",
        [
            N("Shape", "z", "s"),
            N("Slice", "s a b", "hw"),
            N("Shape", "x", "xs"),
            N("Slice", "xs o a", "nc"),
            N("Concat", "nc hw", "t", axis=0),
            N("Resize", "x - - t", "y", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        ],
        dict(x=rnd(1, 2, 3, 4), z=rnd(1, 1, 5, 7)),
        "y",
        dict(a=i64(2), b=i64(4), o=i64(0)),
        dyn=True,
    )
    graph(
        "timestep_embedding",
        [
            N("Unsqueeze", "t ax", "t1"),
            N("Cast", "t1", "tf", to=TensorProto.FLOAT),
            N("Mul", "tf f", "a"),
            N("Sin", "a", "s"),
            N("Cos", "a", "c"),
            N("Concat", "s c", "e", axis=-1),
            N("Slice", "e st en ax", "e2"),
            N("Slice", "e z st ax", "e1"),
            N("Concat", "e2 e1", "y", axis=-1),
        ],
        dict(t=i64(0, 17, 999)),
        "y",
        dict(ax=i64(1), f=np.exp(-np.log(1e4) * np.arange(8) / 8).astype(F)[None], st=i64(8), z=i64(0), en=i64(2**63 - 1)),
    )
    graph(
        "position_ids_range",
        [
            N("Shape", "x", "s"),
            N("Gather", "s i", "n"),
            N("Range", "z n o", "r"),
            N("Gather", "w r", "e"),
            N("Add", "x e", "y"),
        ],
        dict(x=rnd(2, 3, 4)),
        "y",
        dict(i=I(1), z=I(0), o=I(1), w=rnd(5, 4)),
        dyn=True,
    )

    # If
    def branch(name, node):
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info("r")])

    for cond in (True, False):
        graph(
            f"if_constant_{cond}".lower(),
            [N("If", "c", "y", then_branch=branch("then", N("Add", "x x", "r")), else_branch=branch("else", N("Neg", "x", "r")))],
            dict(x=rnd(2, 3)),
            "y",
            dict(c=np.array(cond)),
        )
    for axis in (1, 2):
        graph(
            f"if_squeeze_dim{axis}",
            [
                N("Shape", "x", "s"),
                N("Gather", "s i", "d"),
                N("Equal", "d one", "c"),
                N("If", "c", "y", then_branch=branch("then", N("Squeeze", "x ax", "r")), else_branch=branch("else", N("Identity", "x", "r"))),
            ],
            dict(x=rnd(2, 1, 3)),
            "y",
            dict(i=I(axis), one=I(1), ax=i64(axis)),
            dyn=True,
        )

    # how tensors are stored
    for name, a in [
        ("float", rnd(2, 3)),
        ("double", rnd(2, 3, dtype=np.float64)),
        ("int64", ints(2, 3)),
        ("int32", ints(2, 3, dtype=np.int32)),
        ("uint8", ints(2, 3, lo=0, hi=255, dtype=np.uint8)),
        ("int8", ints(2, 3, lo=-128, hi=127, dtype=np.int8)),
        ("bool", bools(2, 3)),
        ("float16", rnd(2, 3).astype(np.float16)),
    ]:
        for raw in (True, False):
            op(f"stored_{name}_{'raw' if raw else 'typed'}", "Identity", C(a, raw))
    op("stored_float_scalar_typed", "Identity", C(F(3.5), raw=False))
    op("stored_empty", "Identity", C(np.zeros((0, 3), F)))
    graph("stored_input_is_output", [N("Relu", "x", "y")], dict(x=x), "y x")
    graph("stored_output_used_again", [N("Relu", "x", "a"), N("Neg", "a", "y")], dict(x=x), "a y")
    graph("stored_unused_input", [N("Relu", "x", "y")], dict(x=x, z=rnd(2)), "y")
    graph("stored_not_in_place", [N("Relu", "x", "a"), N("Exp", "a", "b"), N("Add", "a b", "c"), N("Mul", "c a", "y")], dict(x=x), "y")
    graph("stored_shared_views", [N("Reshape", "x s", "a"), N("Transpose", "x", "b", perm=[1, 0]), N("Add", "a b", "y")], dict(x=rnd(3, 4)), "y", dict(s=i64(4, 3)))


# --- resampling and pooling --------------------------------------------------------


def resampling():
    """Resize and Upsample."""
    coords = "half_pixel pytorch_half_pixel align_corners asymmetric half_pixel_symmetric".split()
    rounds = "round_prefer_floor round_prefer_ceil floor ceil".split()
    x = rnd(1, 2, 4, 5)
    up, non = np.array([1, 1, 2, 2], F), np.array([1, 1, 1.7, 0.7], F)
    R = lambda name, x, scales=None, sizes=None, roi=None, opset=19, **kw: op(
        f"resize_{name}",
        "Resize",
        x,
        None if roi is None else C(np.array(roi, F)),
        None if scales is None else C(np.array(scales, F)),
        *([] if sizes is None else [C(np.array(sizes, I))]),
        opset=opset,
        **kw,
    )
    for c, r in itertools.product(coords, rounds):
        R(f"nearest_{c}_{r}_up", x, up, mode="nearest", coordinate_transformation_mode=c, nearest_mode=r)
        R(f"nearest_{c}_{r}_mixed", x, non, mode="nearest", coordinate_transformation_mode=c, nearest_mode=r)
    for mode, c in itertools.product(("linear", "cubic"), coords):
        R(f"{mode}_{c}_up", x, up, mode=mode, coordinate_transformation_mode=c)
        R(f"{mode}_{c}_mixed", x, non, mode=mode, coordinate_transformation_mode=c)
        R(f"{mode}_{c}_sizes", x, sizes=[1, 2, 7, 3], mode=mode, coordinate_transformation_mode=c)
    R("nearest_default", x, up, opset=13)
    R("nearest_torch", x, up, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", opset=13, cubic_coeff_a=-0.75)
    R("nearest_sizes", x, sizes=[1, 2, 8, 15], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("nearest_down_sizes", x, sizes=[1, 2, 2, 3], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("nearest_batch_channels", x, [2, 3, 1, 1], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("nearest_1d", rnd(2, 3, 5), [1, 1, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("nearest_1d_sizes", rnd(2, 3, 5), sizes=[2, 3, 13], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("nearest_rank2", rnd(3, 4), [2.5, 1.5], mode="nearest")
    R("nearest_rank5", rnd(1, 2, 2, 3, 2), [1, 1, 2, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    R("linear_1d", rnd(2, 3, 5), [1, 1, 2.4], mode="linear")
    R("linear_1d_align_corners", rnd(2, 3, 5), sizes=[2, 3, 9], mode="linear", coordinate_transformation_mode="align_corners")
    R("linear_rank2", rnd(3, 4), sizes=[5, 7], mode="linear")
    R("linear_rank5", rnd(1, 1, 2, 3, 2), [1, 1, 2, 2, 2], mode="linear")
    R("linear_down", rnd(1, 2, 8, 9), [1, 1, 0.5, 0.4], mode="linear")
    R("linear_to_one", x, sizes=[1, 2, 1, 1], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    R("linear_from_one", rnd(1, 2, 1, 1), sizes=[1, 2, 3, 4], mode="linear", coordinate_transformation_mode="align_corners")
    R("cubic_a_half", x, up, mode="cubic", cubic_coeff_a=-0.5)
    R("cubic_exclude_outside", x, up, mode="cubic", exclude_outside=1)
    R("cubic_down", rnd(1, 1, 8, 9), [1, 1, 0.6, 0.4], mode="cubic")
    R("cubic_rank2", rnd(4, 5), sizes=[6, 9], mode="cubic")
    for mode in ("linear", "cubic"):
        R(f"{mode}_antialias_down", rnd(1, 2, 8, 9), [1, 1, 0.5, 0.6], mode=mode, antialias=1)
        R(f"{mode}_antialias_up", x, up, mode=mode, antialias=1)
        R(f"{mode}_antialias_sizes", rnd(1, 1, 9, 7), sizes=[1, 1, 4, 3], mode=mode, antialias=1, coordinate_transformation_mode="pytorch_half_pixel")
        R(f"{mode}_antialias_align_corners", rnd(1, 1, 9, 7), sizes=[1, 1, 4, 3], mode=mode, antialias=1, coordinate_transformation_mode="align_corners")
    R("cubic_antialias_exclude_outside", rnd(1, 1, 9, 7), sizes=[1, 1, 4, 3], mode="cubic", antialias=1, exclude_outside=1)
    for mode in ("nearest", "linear", "cubic"):
        R(f"{mode}_axes", x, [2, 3], mode=mode, axes=[2, 3])
        R(f"{mode}_axes_sizes", x, sizes=[7, 3], mode=mode, axes=[2, 3])
        R(f"{mode}_crop", rnd(1, 1, 6, 6), sizes=[1, 1, 4, 5], roi=[0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2], mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)
    R("nearest_axes_swapped", x, [3, 2], mode="nearest", axes=[3, 2])
    R("linear_axes_negative", x, [2, 1.5], mode="linear", axes=[-2, -1])
    for policy in ("not_larger", "not_smaller"):
        R(f"aspect_{policy}", x, sizes=[7, 8], axes=[2, 3], mode="linear", keep_aspect_ratio_policy=policy)
    op("resize_runtime_scales", "Resize", x, None, up, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    op("resize_runtime_sizes", "Resize", x, None, None, i64(1, 2, 7, 7), mode="linear")
    op("resize_empty_roi_scales_13", "Resize", x, C(np.zeros(0, F)), C(np.zeros(0, F)), C(i64(1, 2, 8, 10)), opset=13, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    op("resize_opset10", "Resize", x, C(up), opset=10, mode="nearest")
    op("resize_opset10_linear", "Resize", x, C(up), opset=10, mode="linear")
    op("upsample_9_nearest", "Upsample", x, C(up), opset=9, mode="nearest")
    op("upsample_9_linear", "Upsample", x, C(up), opset=9, mode="linear")
    op("upsample_9_nearest_fraction", "Upsample", x, C(np.array([1, 1, 1.6, 2.3], F)), opset=9, mode="nearest")
    op("upsample_7_nearest", "Upsample", x, opset=7, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])
    graph_ = rnd(1, 2, 3, 4)
    for ac in (0, 1):
        for mode in ("linear", "nearest", "cubic"):
            for pad in ("zeros", "border", "reflection"):
                op(f"grid_sample_{mode}_{pad}_{ac}", "GridSample", graph_, rnd(1, 3, 2, 2, scale=0.8), opset=20, mode=mode, padding_mode=pad, align_corners=ac)


def pooling():
    """MaxPool, AveragePool and the global pools."""
    for kind, k in [("MaxPool", "max_pool"), ("AveragePool", "average_pool")]:
        P = lambda name, shape, **kw: op(f"{k}_{name}", kind, rnd(*shape), **{"opset": 19, **kw})
        P("1d", (2, 3, 9), kernel_shape=[3])
        P("1d_stride2_pads", (1, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1])
        P("2d", (1, 2, 6, 7), kernel_shape=[2, 2], strides=[2, 2])
        P("2d_3x3_pads", (2, 2, 6, 7), kernel_shape=[3, 3], pads=[1] * 4)
        P("2d_stride2_pads", (1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        P("2d_asym_pads", (1, 2, 6, 7), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1])
        P("2d_ceil", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        P("2d_ceil_pads", (1, 2, 6, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1)
        P("2d_dilation", (1, 2, 7, 8), kernel_shape=[2, 3], dilations=[2, 2])
        P("2d_same_upper", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        P("2d_same_lower", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
        P("2d_valid", (1, 2, 6, 7), kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID")
        P("2d_opset11", (1, 2, 6, 7), kernel_shape=[2, 2], strides=[2, 2], opset=11)
    for name, kw in [
        ("pads", dict(pads=[1] * 4)),
        ("pads_stride2", dict(pads=[1] * 4, strides=[2, 2])),
        ("pads_ceil", dict(pads=[1] * 4, strides=[2, 2], ceil_mode=1)),
        ("asym", dict(pads=[0, 1, 2, 0], strides=[2, 2])),
    ]:
        op(f"average_pool_include_{name}", "AveragePool", rnd(1, 2, 6, 8), opset=19, kernel_shape=[3, 3], count_include_pad=1, **kw)
    op("average_pool_1d_include", "AveragePool", rnd(1, 2, 7), opset=19, kernel_shape=[3], pads=[1, 1], count_include_pad=1)
    op("max_pool_indices", "MaxPool", rnd(1, 2, 4, 6), opset=17, n_out=2, kernel_shape=[2, 2], strides=[2, 2])
    op("max_pool_all_negative_pads", "MaxPool", -pos(1, 1, 4, 4), opset=17, kernel_shape=[3, 3], pads=[1] * 4)
    for kind, k in [("GlobalAveragePool", "global_average_pool"), ("GlobalMaxPool", "global_max_pool")]:
        for name, s in [("1d", (2, 3, 7)), ("2d", (2, 3, 4, 5)), ("3d", (1, 2, 2, 3, 2))]:
            op(f"{k}_{name}", kind, rnd(*s))


# --- subgraphs as PyTorch writes them ---------------------------------------------


def exported():
    """Small torch modules through both exporters."""
    import torch
    import torch.nn.functional as tf
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Call(nn.Module):
        """A function as a module, with optional parameters."""

        def __init__(self, fn, *modules):
            super().__init__()
            self.fn, self.parts = fn, nn.ModuleList(modules)
            for p in self.parameters():
                nn.init.normal_(p, std=0.5)

        def forward(self, *x):
            return self.fn(*self.parts, *x)

    t = lambda *s: torch.from_numpy(rnd(*s))
    q, k = t(2, 2, 5, 8), t(2, 2, 7, 8)
    mask = torch.from_numpy(bools(2, 1, 5, 7))
    mask[..., 0] = True
    sdpa = tf.scaled_dot_product_attention
    img = t(2, 6, 4, 5)
    for name, module, args in [
        ("sdpa", Call(lambda q, k, v: sdpa(q, k, v)), (q, k, k * 0.5)),
        ("sdpa_scale", Call(lambda q, k, v: sdpa(q, k, v, scale=0.3)), (q, k, k * 0.5)),
        ("sdpa_bool_mask", Call(lambda q, k, v, m: sdpa(q, k, v, m)), (q, k, k * 0.5, mask)),
        ("sdpa_float_mask", Call(lambda q, k, v, m: sdpa(q, k, v, m)), (q, k, k * 0.5, t(2, 1, 5, 7))),
        ("sdpa_causal", Call(lambda q, k, v: sdpa(q, k, v, is_causal=True)), (q, q + 1, q * 0.5)),
        ("multihead_attention", Call(lambda m, x: m(x, x, x, need_weights=False)[0], nn.MultiheadAttention(12, 3, batch_first=True)), (t(2, 5, 12),)),
        ("transformer_layer", Call(lambda m, x: m(x), nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, dropout=0.0, activation="gelu")), (t(2, 5, 12),)),
        ("group_norm", Call(lambda m, x: m(x), nn.GroupNorm(3, 6)), (img,)),
        ("group_norm_1d", Call(lambda m, x: m(x), nn.GroupNorm(2, 6)), (t(2, 6, 9),)),
        ("layer_norm", Call(lambda m, x: m(x), nn.LayerNorm(10)), (t(2, 3, 10),)),
        ("layer_norm_no_affine", Call(lambda m, x: m(x), nn.LayerNorm(10, elementwise_affine=False)), (t(2, 3, 10),)),
        ("rms_norm", Call(lambda m, x: m(x), nn.RMSNorm(10)), (t(2, 3, 10),)),
        ("batch_norm", Call(lambda m, x: m(x), nn.BatchNorm2d(6)), (img,)),
        ("gelu", Call(lambda x: tf.gelu(x) + tf.gelu(x, approximate="tanh")), (t(3, 7),)),
        ("silu_mish", Call(lambda x: tf.silu(x) + tf.mish(x)), (t(3, 7),)),
        ("interpolate_nearest", Call(lambda x: tf.interpolate(x, scale_factor=2.0, mode="nearest")), (img,)),
        ("interpolate_size", Call(lambda x: tf.interpolate(x, size=(9, 7), mode="bilinear", align_corners=False)), (img,)),
        ("interpolate_bilinear_align", Call(lambda x: tf.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)), (img,)),
        ("interpolate_bicubic", Call(lambda x: tf.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)), (img,)),
        ("pixel_shuffle", Call(lambda x: tf.pixel_shuffle(tf.pixel_unshuffle(x, 2), 2) + tf.pixel_unshuffle(tf.pixel_shuffle(x, 2), 2)), (t(1, 4, 4, 6),)),
        ("chunk_modulate", Call(lambda m, x, c: (lambda a, b: x * (1 + a[:, None]) + b[:, None])(*m(tf.silu(c)).chunk(2, dim=-1)), nn.Linear(5, 20)), (t(2, 3, 10), t(2, 5))),
        ("flatten_transpose", Call(lambda x: x.flatten(2).transpose(1, 2)), (img,)),
        ("unpatchify", Call(lambda x: torch.einsum("nhwpqc->nchpwq", x.reshape(x.shape[0], 2, 3, 2, 2, 4)).reshape(x.shape[0], 4, 4, 6)), (t(2, 6, 16),)),
        ("conv_transpose", Call(lambda m, x: m(x), nn.ConvTranspose1d(6, 6, 4, 2, 1)), (t(2, 6, 9),)),
        ("normalize", Call(lambda x: tf.normalize(x, dim=1)), (img,)),
        ("pad_modes", Call(lambda x: tf.pad(x, (1, 2, 0, 1)) + tf.pad(x, (1, 2, 0, 1), mode="reflect") + tf.pad(x, (1, 2, 0, 1), mode="replicate")), (img,)),
        ("index_embedding", Call(lambda m, i: m(i), nn.Embedding(7, 5)), (torch.tensor([3, 0, 6]),)),
        ("std_var_mean", Call(lambda x: x.std(dim=1, keepdim=True) + x.var(dim=1, unbiased=False, keepdim=True) + x.mean((1, 2), keepdim=True)), (t(2, 3, 4),)),
        ("baddbmm_softmax", Call(lambda a, b: torch.baddbmm(torch.zeros(2, 5, 7), a, b, beta=0, alpha=0.4).softmax(-1)), (t(2, 5, 4), t(2, 4, 7))),
        ("rotary", Call(lambda x, c: x * c + torch.cat([-x[..., 4:], x[..., :4]], -1) * c.sin()), (q, t(5, 8))),
        ("stack_unbind", Call(lambda x: torch.stack([a * i for i, a in enumerate(x.unbind(1))], -1)), (t(2, 3, 4),)),
        ("masked_fill_tril", Call(lambda x: x.masked_fill(torch.tril(torch.ones(5, 7)) == 0, -1.0)), (t(2, 5, 7),)),
        ("global_pool_where", Call(lambda x: torch.where(x > 0, tf.adaptive_avg_pool2d(x, 1), x.clamp(-0.5, 0.2))), (img,)),
        ("repeat_interleave", Call(lambda x: x.repeat_interleave(2, dim=1) + x.repeat(1, 2, 1)), (t(2, 3, 4),)),
    ]:
        module.eval()
        names = [f"x{i}" for i in range(len(args))]
        feeds = {n: a.numpy() for n, a in zip(names, args)}
        for form in ("script", "dynamo", "script_symbolic"):
            full = f"torch_{name}_{form}"
            try:
                model = torch_export(module, args, names, form)
            except Exception as error:
                FAILED[full] = "export: " + str(error).strip().splitlines()[0]
                continue
            record(full, model, feeds)


def torch_export(module, args, names, form):
    """Export through the TorchScript or the dynamo exporter; return a ModelProto."""
    import contextlib

    import torch

    kw = dict(input_names=names, output_names=["y"])
    quiet = contextlib.redirect_stdout(io.StringIO())
    buffer = io.BytesIO()
    with quiet, contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        if form == "dynamo":
            torch.onnx.export(module, args, dynamo=True, verbose=False, **kw).save(buffer)
        else:
            if form == "script_symbolic":
                kw["dynamic_axes"] = {n: {0: "batch"} for n in names}
            torch.onnx.export(module, args, buffer, dynamo=False, opset_version=17, **kw)
    model = onnx.load_from_string(buffer.getvalue())
    strip(model)
    return model


def strip(model):
    """Drop names of source files and traces, which say where it was made."""
    for message in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer, *model.functions):
        for field in ("metadata_props", "doc_string"):
            if any(f.name == field for f in message.DESCRIPTOR.fields):
                message.ClearField(field)


# --- writing ----------------------------------------------------------------------


def main():
    """Run all groups and write cases.npz and README.md."""
    global rng
    warnings.filterwarnings("ignore")
    sections = []
    groups = [convolutions, products, softmax_attention, norms, elementwise_unary, elementwise_binary, casts, reductions, movement, indexing, shapes_and_constants, resampling, pooling, exported]
    for group in groups:
        if len(sys.argv) > 1 and group.__name__ not in sys.argv[1:]:
            continue
        rng = np.random.default_rng(zlib.crc32(group.__name__.encode()))
        before = set(CASES)
        group()
        sections.append((group, [n for n in CASES if n not in before]))
        print(group.__name__, len(sections[-1][1]), flush=True)
    arrays, ops = {}, Counter()
    for name, (data, feeds, results) in CASES.items():
        arrays[f"{name}/model"] = np.frombuffer(data, np.uint8)
        arrays.update({f"{name}/in/{k}": np.asarray(v) for k, v in feeds.items()})
        arrays.update({f"{name}/out/{k}": np.asarray(v) for k, v in results.items()})
        ops.update({n.op_type for n in onnx.load_from_string(data).graph.node})
    for name, reason in FAILED.items():
        print("left out:", name, "--", reason[:160])
    if len(sys.argv) > 1:
        return
    with zipfile.ZipFile(HERE / "cases.npz", "w") as archive:  # np.savez without its zip64 headers
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)
    print(len(CASES), "cases,", (HERE / "cases.npz").stat().st_size, "bytes")
    write_readme(sections, ops)


def write_readme(sections, ops):
    """Write the case list."""
    lines = [
        "# Operator cases",
        "",
        f"`cases.npz` holds {len(CASES)} small ONNX models with inputs and the outputs of ONNX Runtime {ort.__version__}",
        "(CPU, optimisations off): `NAME/model` (uint8, a serialised ModelProto), `NAME/in/INPUT`, `NAME/out/OUTPUT`.",
        "Made by `python tests/ops/generate.py` (packages in `tests/requirements.txt`), which also writes this list;",
        "with a group's name as argument it only tries that group. `_runtime` cases have the operands as inputs that",
        "their twin has as initialisers. The archive is deflated; it has no zip64 records.",
        "",
        "Operators, with the number of cases that have them: " + ", ".join(f"{k} {ops[k]}" for k in sorted(ops)) + ".",
        "",
    ]
    for group, names in sections:
        lines += [f"## {group.__name__} ({len(names)})", "", group.__doc__.strip(), "", ", ".join(names), ""]
    lines += ["## Left out: ONNX Runtime or the exporter refused", ""]
    lines += [f"- {name}" for name in FAILED] or ["none"]
    (HERE / "README.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
