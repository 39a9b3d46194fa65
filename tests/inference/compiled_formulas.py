"""The formulas of the compiled functions, as functions that Python can call."""

from minigpt_tf.compiled import entry
from minigpt_tf.inference.attention import weigh as inner_weigh
from minigpt_tf.inference.formulas import gelu as inner_gelu
from minigpt_tf.inference.formulas import gelu_tanh as inner_gelu_tanh
from minigpt_tf.inference.formulas import normalize as inner_normalize
from minigpt_tf.inference.formulas import quantize as inner_quantize
from minigpt_tf.inference.formulas import relu as inner_relu
from minigpt_tf.inference.formulas import rotate as inner_rotate
from minigpt_tf.inference.formulas import swiglu as inner_swiglu
from minigpt_tf.inference.step_arrays import Quantized


@entry
def relu(x, gate):
    inner_relu(x, gate)


@entry
def gelu(x, gate):
    inner_gelu(x, gate)


@entry
def gelu_tanh(x, gate):
    inner_gelu_tanh(x, gate)


@entry
def swiglu(x, gate):
    inner_swiglu(x, gate)


@entry
def normalize(x, norm, size, epsilon, centered, out):
    inner_normalize(x, norm, size, epsilon, centered, out)


@entry
def weigh(scores, first_position, count, end, factor):
    inner_weigh(scores, first_position, count, end, factor)


@entry
def rotate(heads, size, cosines, sines):
    inner_rotate(heads, size, cosines, sines)


@entry
def quantize(x, values, scales, sums):
    inner_quantize(x, Quantized(values, scales, sums), 0, x.shape[0])


ACTIVATIONS = {"relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "swiglu": swiglu}
