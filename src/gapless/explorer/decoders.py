"""A decoder as an ONNX file: the mean of p(x|z), the same in the browser, in the server and in torch."""

import logging
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gapless.model import Model

__all__ = ["milliseconds_per_point", "onnx_decoder", "session"]

INPUT, OUTPUT = "z", "x"
TIMED = 15


class _Mean(nn.Module):
    """z (batch, d) -> mean of p(x|z), (batch, *event); of a conditional model under the one label that is bound."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        if self.model.context:
            z = torch.cat([z, self.model.contexts[1].to(z).expand(z.shape[0], -1)], 1)
        parameters = self.model.decoder(z).reshape(-1, *self.model.parameter_shape)
        return self.model.likelihood(parameters + self.model.offset).mean


def onnx_decoder(model: Model) -> bytes:
    """The decoder with its likelihood's mean: input "z" float32 (batch, d), output "x" float32 (batch, *event).

    Args:
        model: on the CPU; it is left in its mode.
    """
    training = model.training
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Mean(model).eval(), (torch.zeros(2, model.latent),), input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False, optimize=True,
            )  # fmt: skip
            assert program is not None
    finally:
        noisy.setLevel(level)
        model.train(training)
    return _bare(program.model_proto)


def _bare(proto: Any) -> bytes:
    """The file without what the exporter noted of this machine: names and lines of source files."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]
    return proto.SerializeToString()


def session(content: bytes, *, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        content: an ONNX file.
        threads: that one call may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def milliseconds_per_point(ready: Any, latent: int) -> float:
    """The median time of one decode of one code, milliseconds, on this machine with one thread."""
    z, took = np.zeros((1, latent), np.float32), []
    for _ in range(TIMED):
        start = time.perf_counter()
        ready.run([OUTPUT], {INPUT: z})
        took.append(time.perf_counter() - start)
    return float(np.median(took[1:]) * 1000)
