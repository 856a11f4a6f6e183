"""Classifiers as ONNX graphs: several as one, and first convolutions that cost less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper

from training.networks.masks import N_INPUTS, N_LEADS

LOGITS = "logits"


def mean_of(graphs: Sequence[onnx.ModelProto], shares: Sequence[float]) -> onnx.ModelProto:
    """One graph of the same inputs, whose logits are the mean, by shares that need not sum to 1."""
    if len(graphs) == 1:
        return graphs[0]
    parts = [compose.add_prefix(g, f"m{i}_", rename_inputs=False) for i, g in enumerate(graphs)]
    whole = parts[0]
    for part in parts[1:]:
        for field in ("node", "initializer", "value_info"):
            getattr(whole.graph, field).extend(getattr(part.graph, field))
    weights = np.array(shares, dtype=np.float32) / np.float32(sum(shares))
    for i, weight in enumerate(weights):
        whole.graph.initializer.append(numpy_helper.from_array(weight, f"share{i}"))
        node = helper.make_node("Mul", [f"m{i}_{LOGITS}", f"share{i}"], [f"shared{i}"])
        whole.graph.node.append(node)
    names = [f"shared{i}" for i in range(len(weights))]
    whole.graph.node.append(helper.make_node("Sum", names, [LOGITS]))
    whole.graph.output[0].name = LOGITS
    return whole


def masks_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with half the work in the first convolutions of `with_masks`.

    A lead's mask is its entry of `lead_mask` times the sample mask, so what a convolution makes of
    all masks is a product: the kernels summed over the known leads, a segment each, times the
    sample mask's windows. Other convolutions are left as they are.
    """
    out = onnx.ModelProto.FromString(model.SerializeToString())
    graph = out.graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    windows: dict[str, str] = {}  # of the sample mask, by the convolution's attributes
    for node in graph.node:
        cat = made_by.get(node.input[0]) if node.op_type == "Conv" else None
        if cat is None or not _is_with_masks(cat, made_by, weights[node.input[1]]):
            nodes.append(node)
            continue
        nodes += _apart(node, cat, weights, windows, graph)
    wanted = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    nodes = [node for node in nodes if wanted.intersection(node.output)]
    wanted = {name for node in nodes for name in node.input}
    kept = [i for i in graph.initializer if i.name in wanted]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    onnx.checker.check_model(out)
    return out


def _is_with_masks(
    cat: onnx.NodeProto, made_by: dict[str, onnx.NodeProto], weight: np.ndarray
) -> bool:
    """Whether it is the [sig, masks, sample mask] of `with_masks`, and the kernel one for it."""
    if cat.op_type != "Concat" or len(cat.input) != 3 or weight.shape[1] != N_INPUTS:
        return False
    masks, sample_mask = (made_by.get(name) for name in cat.input[1:])
    return (
        masks is not None
        and masks.op_type == "Mul"
        and sample_mask is not None
        and sample_mask.op_type == "Unsqueeze"
        and sample_mask.input[0] == "sample_mask"
    )


def _apart(
    conv: onnx.NodeProto,
    cat: onnx.NodeProto,
    weights: dict[str, np.ndarray],
    windows: dict[str, str],
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    """The nodes in the place of `conv`; what they read is added to the graph."""
    weight = weights[conv.input[1]]
    width, _, length = weight.shape

    def constant(name: str, values: np.ndarray) -> str:
        named = f"{conv.name}_{name}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), named))
        return named

    def like_conv(name: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
        node = helper.make_node("Conv", inputs, [output], name=name)
        node.attribute.extend(conv.attribute)
        return node

    nodes = []
    alike = f"{conv.attribute} {length}"
    if alike not in windows:
        each = constant("each_sample", np.eye(length, dtype=np.float32)[:, None])
        windows[alike] = f"{conv.name}_windows"
        nodes.append(like_conv(windows[alike], [cat.input[2], each], windows[alike]))
    of_leads = weight[:, N_LEADS : 2 * N_LEADS].transpose(1, 0, 2).reshape(N_LEADS, -1)
    of_samples = weight[:, 2 * N_LEADS].reshape(-1)
    name = conv.name
    return [
        *nodes,
        like_conv(
            f"{name}_signal",
            [cat.input[0], constant("kernel", weight[:, :N_LEADS]), *conv.input[2:]],
            f"{name}_of_signal",
        ),
        helper.make_node(
            "Gemm",
            ["lead_mask", constant("of_leads", of_leads), constant("of_samples", of_samples)],
            [f"{name}_flat"],
        ),
        helper.make_node(
            "Reshape",
            [f"{name}_flat", constant("shape", np.array([-1, width, length]))],
            [f"{name}_kernels"],
        ),
        helper.make_node("MatMul", [f"{name}_kernels", windows[alike]], [f"{name}_of_masks"]),
        helper.make_node("Add", [f"{name}_of_signal", f"{name}_of_masks"], [conv.output[0]]),
    ]


def first_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of those that no other convolution comes before."""
    after: set[str] = set()  # tensors with a convolution before them
    first = []
    for node in model.graph.node:
        behind = bool(after.intersection(node.input))
        if node.op_type == "Conv" and not behind:
            first.append(node.name)
        if node.op_type == "Conv" or behind:
            after.update(node.output)
    return first
