"""What several processes agree on, in two real ones."""

from __future__ import annotations

import os
import socket

import torch
from accelerate import Accelerator
from torch import multiprocessing, nn

from pipelines.training.distributed import average_gradients


def _average(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    convolution = nn.Conv2d(2, 3, 3)
    assert convolution.bias is not None
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    gradient = torch.arange(54.0).view(3, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    convolution.weight.grad = gradient * (1 + 2 * rank)
    if rank == 0:  # the other process came across no bias
        convolution.bias.grad = torch.tensor([2.0, 4.0, 6.0])
    average_gradients(accelerator, list(convolution.parameters()))
    torch.testing.assert_close(convolution.weight.grad, 2 * gradient)
    torch.testing.assert_close(convolution.bias.grad, torch.tensor([1.0, 2.0, 3.0]))
    torch.distributed.destroy_process_group()


def test_gradients_are_averaged_between_processes() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_average, (port,), nprocs=2)
