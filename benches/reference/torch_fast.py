#!/usr/bin/env python3
"""The recipe of experiments/fast.yaml, or of fast-256 and fast-3750, in PyTorch, to be timed beside runboard (CPU or one GPU).

    pip install torch==2.11.0 numpy
    torch_fast.py --data DIR [--device cpu|cuda] [--batch-size N] [--rate R] [--ema D] [--threads N] [--steps N] [--every N]
                  [--seed N]

fast-3750 is --batch-size 256 --rate 0.03 --ema 0.98 --steps 3750.

DIR holds CIFAR-10's binary files. Same network, input, update rule, schedule, average and views at evaluation as the
experiment; what is random differs. LRN's window is a convolution with a band matrix and memory is channels-last, which is
PyTorch's fastest way (torch_cifar10.py). Every 10 steps a line, for which the loss is fetched. Every N steps, and after the
last one, the average is evaluated on the test images, plain and with the views; the seconds are those of training alone.
"""
import argparse, glob, math, os, time
import numpy as np
import torch, torch.nn.functional as F

# experiments/fast.yaml
CROP, PAD = 32, 2
MOMENTUM, DECAY = 0.95, 0.1
L2 = {2: 0.002, 3: 0.002}  # of local3 and local4
WARMUP = 0.1  # of the steps, then a line to zero

a = argparse.ArgumentParser()
a.add_argument("--data", required=True)
a.add_argument("--device", default="cpu")
a.add_argument("--batch-size", type=int, default=128)
a.add_argument("--rate", type=float, default=0.02, help="of Muon and of SGD for the rest")
a.add_argument("--ema", type=float, default=0.99)
a.add_argument("--threads", type=int, default=os.cpu_count())
a.add_argument("--steps", type=int, default=10_000)
a.add_argument("--every", type=int, default=1_000_000)
a.add_argument("--seed", type=int, default=1)
a = a.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
dev = torch.device(a.device)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True


def load(pattern):
    files = sorted(glob.glob(os.path.join(a.data, pattern)))
    if not files:
        raise SystemExit(f"torch_fast.py: {a.data} has no {pattern}, want CIFAR-10's binary files")
    raw = np.concatenate([np.fromfile(f, np.uint8) for f in files]).reshape(-1, 3073)
    images = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()).to(dev)
    return images, torch.from_numpy(raw[:, 0].astype(np.int64)).to(dev)


def normal(shape, std):
    """Drawn again beyond two standard deviations."""
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std)


def he(shape):
    """Standard deviation sqrt(2 / fan-in)."""
    return torch.nn.init.kaiming_normal_(torch.empty(shape))


side = math.ceil(math.ceil(CROP / 2) / 2)
weights = [normal((64, 3, 5, 5), 0.05), he((64, 64, 5, 5)), he((384, 64 * side * side)), he((192, 384)),
           normal((10, 192), 1 / 192)]
weights[1] = weights[1].to(memory_format=torch.channels_last)
biases = [torch.full((len(w),), b) for w, b in zip(weights, (0.0, 0.1, 0.1, 0.1, 0.0))]
params = [p.to(dev).requires_grad_() for p in weights + biases]
memory = [torch.zeros_like(p) for p in params]
average = [p.detach().clone() for p in params]
channels = torch.arange(64, device=dev)
band = ((channels[:, None] - channels[None, :]).abs() <= 4).float().view(64, 64, 1, 1)


def lrn(x):
    """x / (1 + alpha * sum of squares)^(3/4)"""
    t = torch.rsqrt(1 + (0.001 / 9) * F.conv2d(x * x, band))
    return x * t * torch.sqrt(t)


def pool(x):
    """Windows of 3 in steps of 2, padded as TensorFlow's SAME does."""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e30), 3, 2)


def network(p, x):
    w, b = p[:5], p[5:]
    x = lrn(pool(F.relu(F.conv2d(x, w[0], b[0], padding=2))))
    x = pool(lrn(F.relu(F.conv2d(x, w[1], b[1], padding=2))))
    x = F.relu(F.linear(x.flatten(1), w[2], b[2]))
    return F.linear(F.relu(F.linear(x, w[3], b[3])), w[4], b[4])


train_x, train_y = load("data_batch_*.bin")
test_x, test_y = load("test_batch.bin")
first_mirrored = torch.randint(0, 2, (len(train_y),), device=dev)
padded = F.pad(train_x.float(), (PAD,) * 4, mode="reflect").byte()
values = train_x.double().transpose(0, 1).flatten(1)
shift, scale = values.mean(1).float().view(3, 1, 1), values.std(1, unbiased=False).float().view(3, 1, 1)


def normalize(x):
    return ((x.float() - shift) / scale).contiguous(memory_format=torch.channels_last)


def distort(index, epochs):
    """A random place in the padded image, mirrored in every other epoch."""
    n = index.shape[0]
    dy, dx = torch.randint(0, 32 + 2 * PAD - CROP + 1, (2, n, 1, 1), device=dev)
    line = torch.arange(CROP, device=dev)
    mirrored = ((first_mirrored[index] + epochs) % 2 == 1).view(n, 1, 1)
    rows = dy + line.view(1, CROP, 1)
    columns = dx + torch.where(mirrored, CROP - 1 - line, line.view(1, 1, CROP))
    return normalize(padded[index.view(-1, 1, 1), :, rows, columns].permute(0, 3, 1, 2))


def orthogonal(update):
    """Keller Jordan's zeropower_via_newtonschulz5, in float32."""
    x = update.flatten(1)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        g = x @ x.T
        x = 3.4445 * x + (-4.7750 * g + 2.0315 * g @ g) @ x
    factor = max(1.0, update.shape[0] / update[0].numel()) ** 0.5
    return (x.T if tall else x).reshape(update.shape) * factor


@torch.no_grad()
def update(grads, factor):
    for at, (p, m, g) in enumerate(zip(params, memory, grads)):
        rate = a.rate * factor
        if at < 4:
            m.lerp_(g, 1 - MOMENTUM)
            change = orthogonal(g.lerp(m, MOMENTUM))
        else:
            m.mul_(MOMENTUM).add_(g)
            change = g.add(m, alpha=MOMENTUM)
        if at < 5:
            change = change.add(p, alpha=DECAY)
        p.sub_(change, alpha=rate)


@torch.no_grad()
def accuracies():
    """Of the images as they are, and of the views of `mirror_translate`."""
    hits = [0, 0]
    wide = F.pad(test_x.float(), (1, 1, 1, 1), mode="reflect")

    def logits(at, move):
        x = normalize(wide[at:at + 500, :, 1 + move:33 + move, 1 + move:33 + move])
        return network(average, x), network(average, x.flip(3))

    for at in range(0, len(test_y), 500):
        plain, mirror = logits(at, 0)
        views = (plain + mirror) / 2 + sum(sum(logits(at, move)) / 4 for move in (-1, 1)) / 2
        for i, z in enumerate((plain, views)):
            hits[i] += int((z.argmax(1) == test_y[at:at + 500]).sum())
    return [h / len(test_y) for h in hits]


def positions():
    """Index and epoch, endlessly."""
    epoch = 0
    while True:
        order = torch.randperm(len(train_y), device=dev)
        yield torch.stack([order, torch.full_like(order, epoch)])
        epoch += 1


epochs = positions()
left = next(epochs)
seconds, since = 0.0, time.perf_counter()
for step in range(a.steps):
    while left.shape[1] < a.batch_size:
        left = torch.cat([left, next(epochs)], 1)
    index, epoch = left[:, :a.batch_size]
    left = left[:, a.batch_size:]
    part = step / a.steps
    factor = part / WARMUP if part < WARMUP else (1 - part) / (1 - WARMUP)
    loss = F.cross_entropy(network(params, distort(index, epoch)), train_y[index])
    total = loss + sum(decay / 2 * params[at].square().sum() for at, decay in L2.items())
    update(torch.autograd.grad(total, params), factor)
    with torch.no_grad():
        torch._foreach_lerp_(average, params, 1 - min(a.ema, (2 + step) / (11 + step)))
    last = step + 1 == a.steps
    if (step + 1) % 10 == 0 or last:
        value = loss.item()
        seconds += time.perf_counter() - since
        if not math.isfinite(value):
            raise SystemExit(f"torch_fast.py: the loss is {value} at step {step + 1}")
        print(f"step {step + 1}, loss = {value:.3f}, {seconds:.1f} s", flush=True)
        if (step + 1) % a.every == 0 or last:
            plain, views = accuracies()
            print(f"step {step + 1}, accuracy = {plain:.4f}, with views {views:.4f}, {seconds:.1f} s", flush=True)
        since = time.perf_counter()
