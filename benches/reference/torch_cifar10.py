#!/usr/bin/env python3
"""The tutorial's CIFAR-10 network in PyTorch, to be timed beside runboard (CPU or one GPU).

    pip install torch==2.11.0 numpy
    torch_cifar10.py --data DIR [--device cpu|cuda] [--mode eager|compile|graph] [--lrn stock|band]
                     [--channels-last] [--amp] [--batch-size N] [--threads N] [--steps N] [--evaluate]

DIR holds CIFAR-10's binary files. Same network, constants and distortions as the tutorial; the images lie
on the device as bytes and are distorted there, a batch at a time. `band` computes LRN's window of channels
as a 1x1 convolution, which is faster than PyTorch's own; `graph` captures the whole step in a CUDA graph.
Every 10 steps a line, for which the loss is fetched. With --evaluate a step is a forward pass over the
10,000 test images. Without --steps it goes on until it is killed.
"""
import argparse, glob, itertools, os, time
import numpy as np
import torch, torch.nn.functional as F

a = argparse.ArgumentParser()
a.add_argument("--data", required=True)
a.add_argument("--device", default="cpu")
a.add_argument("--mode", default="eager", choices=["eager", "compile", "graph"])
a.add_argument("--lrn", default="stock", choices=["stock", "band"])
a.add_argument("--channels-last", action="store_true")
a.add_argument("--amp", action="store_true")
a.add_argument("--batch-size", type=int, default=128)
a.add_argument("--threads", type=int, default=os.cpu_count())
a.add_argument("--steps", type=int, default=0)
a.add_argument("--evaluate", action="store_true")
a = a.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
dev = torch.device(a.device)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True


def load(pattern):
    files = sorted(glob.glob(os.path.join(a.data, pattern)))
    raw = np.concatenate([np.fromfile(f, np.uint8) for f in files]).reshape(-1, 3073)
    images = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()).to(dev)
    return images, torch.from_numpy(raw[:, 0].astype(np.int64)).to(dev)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        shapes = dict(c1=(64, 3, 5, 5), c2=(64, 64, 5, 5), l3=(384, 2304), l4=(192, 384), out=(10, 192))
        std = dict(c1=5e-2, c2=5e-2, l3=0.04, l4=0.04, out=1 / 192)
        fill = dict(c1=0.0, c2=0.1, l3=0.1, l4=0.1, out=0.0)
        for name, shape in shapes.items():
            w = torch.empty(shape)
            torch.nn.init.trunc_normal_(w, std=std[name], a=-2 * std[name], b=2 * std[name])
            self.register_parameter(name + "_w", torch.nn.Parameter(w))
            self.register_parameter(name + "_b", torch.nn.Parameter(torch.full((shape[0],), fill[name])))
        i = torch.arange(64)
        self.register_buffer("band", ((i[:, None] - i[None, :]).abs() <= 4).float().view(64, 64, 1, 1))

    def lrn(self, x):
        if a.lrn == "stock":
            return F.local_response_norm(x, 9, alpha=0.001, beta=0.75, k=1.0)
        t = torch.rsqrt(1 + (0.001 / 9) * F.conv2d(x * x, self.band))
        return x * t * torch.sqrt(t)

    def pool(self, x):
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-3e4), 3, 2)

    def forward(self, x):
        x = self.lrn(self.pool(F.relu(F.conv2d(x, self.c1_w, self.c1_b, padding=2))))
        x = self.pool(self.lrn(F.relu(F.conv2d(x, self.c2_w, self.c2_b, padding=2))))
        x = F.relu(F.linear(x.flatten(1), self.l3_w, self.l3_b))
        return F.linear(F.relu(F.linear(x, self.l4_w, self.l4_b)), self.out_w, self.out_b)


def standardize(x):
    d = x.flatten(1)
    mean, std = d.mean(1), d.std(1, unbiased=False).clamp_min(d.shape[1] ** -0.5)
    x = (x - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
    return x.contiguous(memory_format=torch.channels_last) if a.channels_last else x


def distort(index):
    n = index.shape[0]
    dy, dx = torch.randint(0, 9, (2, n, 1, 1), device=dev)
    rows = dy + torch.arange(24, device=dev).view(1, 24, 1)
    cols = torch.arange(24, device=dev).view(1, 1, 24)
    cols = dx + torch.where(torch.rand(n, 1, 1, device=dev) < 0.5, 23 - cols, cols)
    x = train_x[index.view(-1, 1, 1), :, rows, cols].permute(0, 3, 1, 2).float()
    x = x + torch.empty(n, 1, 1, 1, device=dev).uniform_(-63, 63)
    mean = x.mean((2, 3), keepdim=True)
    return standardize((x - mean) * torch.empty(n, 1, 1, 1, device=dev).uniform_(0.2, 1.8) + mean)


net = Net().to(dev)
if a.channels_last:
    net = net.to(memory_format=torch.channels_last)
params = list(net.parameters())
shadow = [p.detach().clone() for p in params]
decay = torch.zeros((), device=dev)
rate = 0.1
if a.mode == "compile":
    forward = torch.compile(net, mode="default" if dev.type == "cpu" else "max-autotune-no-cudagraphs")
else:
    forward = net


def step(index):
    x, y = distort(index), train_y[index]
    with torch.autocast(dev.type, torch.bfloat16, enabled=a.amp):
        loss = F.cross_entropy(forward(x).float(), y)
    loss = loss + 0.004 * 0.5 * (net.l3_w.square().sum() + net.l4_w.square().sum())
    grads = torch.autograd.grad(loss, params)
    with torch.no_grad():
        torch._foreach_add_(params, grads, alpha=-rate)
        moved = torch._foreach_sub(params, shadow)
        torch._foreach_mul_(moved, 1 - decay)
        torch._foreach_add_(shadow, moved)
    return loss.detach()


def captured(n):
    """The step as one CUDA graph, replayed for other images."""
    static = torch.randint(0, train_x.shape[0], (n,), device=dev)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(5):
            step(static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(static)

    def run(index):
        static.copy_(index)
        graph.replay()
        return loss
    return run


def say(step, what, images, batches, since):
    sec = time.perf_counter() - since
    print(f"step {step}, {what} ({images / sec:.1f} examples/sec; {sec / batches:.5f} sec/batch)", flush=True)


numbers = range(1, a.steps + 1) if a.steps else itertools.count(1)
since = time.perf_counter()
if a.evaluate:
    test_x, test_y = load("test_batch.bin")
    for i in numbers:
        hits = torch.zeros((), dtype=torch.int64, device=dev)
        for at in range(0, len(test_y), 500):
            with torch.no_grad(), torch.autocast(dev.type, torch.bfloat16, enabled=a.amp):
                x = standardize(test_x[at:at + 500, :, 4:28, 4:28].float())
                hits += (forward(x).argmax(1) == test_y[at:at + 500]).sum()
        say(i, f"precision = {hits.item() / len(test_y):.3f}", len(test_y), 1, since)
        since = time.perf_counter()
else:
    train_x, train_y = load("data_batch_*.bin")
    run = captured(a.batch_size) if a.mode == "graph" else step
    count = len(train_y)
    at = count
    for i in numbers:
        if at + a.batch_size > count:
            order, at = torch.randperm(count, device=dev), 0
        decay.fill_(min(0.9999, (1 + i) / (10 + i)))
        loss = run(order[at:at + a.batch_size])
        at += a.batch_size
        if i % 10 == 0:
            say(i, f"loss = {loss.item():.2f}", 10 * a.batch_size, 10, since)
            since = time.perf_counter()
