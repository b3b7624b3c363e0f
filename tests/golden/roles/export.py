"""Writes the small networks of tests/roles.rs, one for each way to read inputs: `python export.py`."""

import pathlib

import onnx
from onnx import TensorProto, helper

FLOAT, HERE = TensorProto.FLOAT, pathlib.Path(__file__).parent


def write(name, nodes, inputs, shape):
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info("f", FLOAT, shape)
    graph = helper.make_graph([helper.make_node(*node[:3], **dict(node[3:])) for node in nodes], name, values, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


# x' = x * (steps - step)
write("next_state", [("Sub", ["steps", "step"], ["left"]), ("Mul", ["x", "left"], ["f"])],
      dict(x=[1, 4], step=[1], steps=[1]), [1, 4])
# The score of unit normals around y, and the velocity that leads to y from x.
write("around", [("Sub", ["y", "x"], ["d"]), ("Mul", ["d", "t"], ["f"])], dict(x=[1, 4], y=[1, 4], t=[1]), [1, 4])
# Three velocities: x, 2x and 4x, before each other in the last dimension.
write("grid", [("Add", ["x", "x"], ["x2"]), ("Add", ["x2", "x2"], ["x4"]), ("Mul", ["x", "t"], ["x1"]),
               ("Concat", ["x1", "x2", "x4"], ["f"], ("axis", -1))], dict(x=[1, 2, 2], t=[1]), [1, 2, 6])
# No time: x times what is read of the guidance.
write("distilled", [("Mul", ["x", "w"], ["f"])], dict(x=[1, 4], w=[1, 4]), [1, 4])
