"""A PyTorch training step of the same CIFAR ResNet, the yardstick of `experiments/bench.py`.

Same network as `rcm.models.resnet.ResNet` with option A shortcuts (He et al. 2016), same batch and
precision, cross entropy, SGD with Nesterov momentum 0.9 and L2 in the gradient, on the GPU that
torch finds or else on the CPU. torch is an optional
dependency (`pip install rcm[bench]`) and is imported only when a function here is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any


def milliseconds_per_step(
    depth: int,
    width: int,
    batch: int,
    steps: int,
    threads: int,
    compiled: bool = False,
    precision: str = "float32",
) -> float:
    """Mean ms of `steps` SGD steps of one model in this process, on so many threads, eager or by
    `torch.compile`, which takes a C++ compiler, in float32, tf32 or bfloat16 (autocast).

    The first call in a process builds the model; call once before measuring.
    """
    import torch

    torch.set_num_threads(threads)
    step = make_train_step(depth, width, batch, compiled, precision)
    start = time.perf_counter()
    for _ in range(steps):
        loss = step()
    float(loss)  # waits for a GPU
    return 1e3 * (time.perf_counter() - start) / steps


class Workers:
    """`count` processes of `threads` threads, each training a model of its own, all at once.

    A call returns ms per model and step: what a step takes the slowest, over their number.
    """

    def __init__(self, count: int, *work: Any):
        """work: what `milliseconds_per_step` takes."""
        self.work = work
        spawn = get_context("spawn")
        self.processes = [ProcessPoolExecutor(1, mp_context=spawn) for _ in range(count)]

    def __call__(self) -> float:
        running = [process.submit(milliseconds_per_step, *self.work) for process in self.processes]
        return max(run.result() for run in running) / len(self.processes)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.shutdown()


@cache
def make_train_step(
    depth: int, width: int, batch: int, compiled: bool = False, precision: str = "float32"
) -> Callable[[], Any]:
    """A function that takes one SGD step, channels_last, on a fixed random batch -> the loss.

    Raises ImportError when torch is not installed and ValueError for a depth that is not 6n + 2.
    """
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cudnn.benchmark = True
    layout: Any = torch.channels_last
    model = build_resnet(depth, width, classes=10).to(device, memory_format=layout).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    network: Any = torch.compile(model) if compiled else model
    images = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (batch,), device=device)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def build_resnet(depth: int, width: int, classes: int) -> Any:
    """The torch module: images [B, 3, H, W] -> logits [B, classes]."""
    from torch import nn

    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth {depth} is not 6n + 2 with n >= 1; use 8, 20, 32, 44, 56 or 110.")
    layers = [*_conv_norm(3, width, 1), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range((depth - 2) // 6):
            features = width * 2**stage
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_block(channels, features, stride))
            channels = features
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *head)


def _conv_norm(channels: int, features: int, stride: int) -> tuple[Any, Any]:
    from torch import nn

    conv = nn.Conv2d(channels, features, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(features)


def _block(channels: int, features: int, stride: int) -> Any:
    """Two 3 x 3 convolutions with the shortcut that strides and pads channels with zeros."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.residual = nn.Sequential(
                *_conv_norm(channels, features, stride),
                nn.ReLU(inplace=True),
                *_conv_norm(features, features, 1),
            )

        def forward(self, x: Any) -> Any:
            extra = features - channels
            shortcut = x
            if stride > 1 or extra:
                pad = (0, 0, 0, 0, extra // 2, extra - extra // 2)
                shortcut = functional.pad(x[:, :, ::stride, ::stride], pad)
            return functional.relu(self.residual(x) + shortcut, inplace=True)

    return Block()
