"""The limit: the products of a training step alone, on the layers' sizes, and the peak of a large matrix product."""

import json
import time

import torch
from work import BATCH, WORK

W1 = [(784, 400, False), (400, 40, True), (20, 400, True), (400, 784, True)]  # inputs, outputs, gradient of the input


def affine(before, after, back):
    x, w, y = torch.randn(BATCH, before), torch.randn(after, before), torch.randn(BATCH, after)
    dw, dx = torch.empty_like(w), torch.empty_like(x)

    def run():
        torch.mm(x, w.t(), out=y)
        torch.mm(y.t(), x, out=dw)
        if back:
            torch.mm(y, w, out=dx)

    return run, 2 * BATCH * before * after * (3 if back else 2)


def convolution(size, before, after, *, back, transposed=False):
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    layer = kind(before, after, 3, stride=2, padding=1, **({"output_padding": 1} if transposed else {}))
    x = torch.randn(BATCH, before, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        grad = layer(x)
    extra, mask = [1, 1] if transposed else [0, 0], [back, True, False]
    arguments = (None, [2, 2], [1, 1], [1, 1], transposed, extra, 1, mask)

    def run():
        with torch.no_grad():
            layer(x)
            torch.ops.aten.convolution_backward(grad, x, layer.weight, *arguments)

    small = size if transposed else size // 2
    return run, 2 * BATCH * 9 * before * after * small * small * (3 if back else 2)


def parts():
    if WORK == "W1":
        return [affine(*sizes) for sizes in W1]
    return [
        convolution(28, 1, 32, back=False), convolution(14, 32, 64, back=True), affine(3136, 32, True),
        affine(16, 3136, True), convolution(7, 64, 32, back=True, transposed=True),
        convolution(14, 32, 1, back=True, transposed=True),
    ]  # fmt: skip


def rate(run, seconds=2.0):
    for _ in range(3):
        run()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        run()
        done += 1
    return done / (time.perf_counter() - begun)


made = parts()
flops = sum(count for _, count in made)
a, b, c = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)
print(
    json.dumps(
        {
            "limit": rate(lambda: [run() for run, _ in made]) * BATCH,
            "peak": rate(lambda: torch.mm(a, b, out=c)) * 2 * 2048**3 / (flops / BATCH),
            "gigaflops": rate(lambda: torch.mm(a, b, out=c)) * 2 * 2048**3 / 1e9,
            "megaflops_per_image": flops / BATCH / 1e6,
        }
    )
)
