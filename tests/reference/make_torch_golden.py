#!/usr/bin/env python3
"""What PyTorch makes of small problems: the golden files that the optimizers' tests compare with.

Run by hand, after a change here, on the CPU; the files are committed:

    python3 -m venv .venv-torch-golden
    .venv-torch-golden/bin/pip install torch==2.11.0 numpy==2.4.6 safetensors==0.8.0
    .venv-torch-golden/bin/python tests/reference/make_torch_golden.py

The inputs follow from fixed seeds. Layouts are runboard's: convolutions [out, in, row, column], dense weights [in, out].

optimizer.safetensors     of the loss sum(curvature * (w - target)^2) / 2, whose gradient is curvature * (w - target):
    initial/NAME, target/NAME, curvature/NAME    every parameter, NAME being layer/weights or layer/biases
    CASE/N/NAME           after N steps; step k has the learning rate times 1 - k / 40
    smoothing/            logits, labels; SHARE/loss and SHARE/gradient of the cross-entropy with label_smoothing
optimizer.json            by case: fields of the spec's `optimizer`, and l2, the layers' own weight decay
torch_schedules.json      by case: a spec, the number of its training images, and the learning rate of each step
"""
import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
STEPS = 20
KEPT = (1, 2, 5, 20)

SHAPES = {
    "conv1": [4, 3, 3, 3], "conv2": [6, 4, 3, 3], "local3": [24, 8], "local4": [8, 12], "softmax_linear": [12, 10],
}
CASES = {
    "sgd": {"learning_rate": 0.1},
    "sgd-momentum": {"learning_rate": 0.05, "momentum": 0.9},
    "sgd-nesterov": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "sgd-dampening": {"learning_rate": 0.2, "momentum": 0.8, "dampening": 0.4},
    "sgd-l2": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "l2": 0.1},
    "sgd-decoupled": {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.2},
    "sgd-biases": {"learning_rate": 0.03, "momentum": 0.9, "bias_rate_factor": 2.0},
    "sgd-clip": {"learning_rate": 0.1, "clip_norm": 10.0},
    "sgd-all": {"learning_rate": 0.04, "momentum": 0.85, "nesterov": True, "weight_decay": 0.1, "l2": 0.05,
                "bias_rate_factor": 2.0, "clip_norm": 20.0},
    "adamw": {"name": "adamw", "learning_rate": 0.02},
    "adamw-all": {"name": "adamw", "learning_rate": 0.02, "betas": [0.8, 0.95], "epsilon": 1e-3, "weight_decay": 0.1,
                  "bias_rate_factor": 0.5, "clip_norm": 10.0},
    "muon": {"name": "muon", "learning_rate": 0.02, "sgd_learning_rate": 0.05, "momentum": 0.95, "nesterov": True},
    "muon-plain": {"name": "muon", "learning_rate": 0.02, "momentum": 0.6, "weight_decay": 0.1},
}


def zeropower_via_newtonschulz5(G, steps=5):
    """Keller Jordan's, https://github.com/KellerJordan/Muon/blob/master/muon.py, in the precision of G."""
    a, b, c = (3.4445, -4.7750, 2.0315)
    X = G
    if G.size(-2) > G.size(-1):
        X = X.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        B = b * A + c * A @ A
        X = a * X + B @ X
    if G.size(-2) > G.size(-1):
        X = X.mT
    return X


def muon_update(grad, momentum, beta=0.95, ns_steps=5, nesterov=True):
    """Keller Jordan's, of the same file, for weights [out, in] or [out, in, height, width]."""
    momentum.lerp_(grad, 1 - beta)
    update = grad.lerp_(momentum, beta) if nesterov else momentum
    if update.ndim == 4:
        update = update.view(len(update), -1)
    update = zeropower_via_newtonschulz5(update, steps=ns_steps)
    # His 4D gradient has the kernel's sides here, which are equal; this is what the line means for a matrix.
    update *= max(1, update.size(-2) / update.size(-1)) ** 0.5
    return update


class Muon(torch.optim.Optimizer):
    """Keller Jordan's SingleDeviceMuon; dense weights are transposed to his layout."""

    def __init__(self, params, **defaults):
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                grad = p.grad.clone() if p.ndim == 4 else p.grad.T.clone()
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(grad)
                update = muon_update(grad, state["momentum_buffer"], beta=group["momentum"], nesterov=group["nesterov"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                update = update.reshape(p.shape) if p.ndim == 4 else update.T
                p.add_(update, alpha=-group["lr"])


def groups(parameters, rate, case):
    """Weights and biases, of which only the weights decay."""
    weights = [p for name, p in parameters.items() if name.endswith("weights")]
    biases = [p for name, p in parameters.items() if name.endswith("biases")]
    decay = case.get("weight_decay", 0.0)
    return [{"params": weights, "lr": rate, "weight_decay": decay},
            {"params": biases, "lr": rate * case.get("bias_rate_factor", 1.0), "weight_decay": 0.0}]


def sgd(parameters, rate, case):
    """torch.optim.SGD, whose weight decay is L2; the decoupled one is done beside it."""
    of = groups(parameters, rate, case)
    for group in of:
        group["decoupled"] = group["weight_decay"]
        group["weight_decay"] = 0.0
    of[0]["weight_decay"] = 0.0 if "clip_norm" in case else case.get("l2", 0.0)
    return torch.optim.SGD(of, momentum=case.get("momentum", 0.0), nesterov=case.get("nesterov", False),
                           dampening=case.get("dampening", 0.0))


def optimizers(parameters, case):
    rate = case["learning_rate"]
    if case.get("name") == "adamw":
        return [torch.optim.AdamW(groups(parameters, rate, case), betas=case.get("betas", (0.9, 0.999)),
                                  eps=case.get("epsilon", 1e-8))]
    if case.get("name") == "muon":
        hidden = {n: p for n, p in parameters.items() if n.endswith("weights") and not n.startswith("softmax")}
        rest = {n: p for n, p in parameters.items() if n not in hidden}
        muon = Muon(list(hidden.values()), lr=rate, momentum=case["momentum"], nesterov=case.get("nesterov", False),
                    weight_decay=case.get("weight_decay", 0.0))
        return [muon, sgd(rest, case.get("sgd_learning_rate", 0.1), case)]
    return [sgd(parameters, rate, case)]


def run(case, initial, target, curvature, kind):
    parameters = {n: torch.tensor(v, dtype=kind).requires_grad_() for n, v in initial.items()}
    target = {n: torch.tensor(v, dtype=kind) for n, v in target.items()}
    curvature = {n: torch.tensor(v, dtype=kind) for n, v in curvature.items()}
    of = optimizers(parameters, case)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in of]
    kept = {}
    for step in range(STEPS):
        for optimizer, rates_of in zip(of, rates):
            for group, rate in zip(optimizer.param_groups, rates_of):
                group["lr"] = rate * (1 - step / 40)
        loss = sum((curvature[n] * (p - target[n]) ** 2).sum() / 2 for n, p in parameters.items())
        # Where the gradient is clipped, the decay is in the loss, so that it is clipped with it.
        if "clip_norm" in case:
            loss = loss + sum(case.get("l2", 0.0) * (p ** 2).sum() / 2 for n, p in parameters.items()
                              if n.endswith("weights"))
        for optimizer in of:
            optimizer.zero_grad()
        loss.backward()
        if "clip_norm" in case:
            torch.nn.utils.clip_grad_norm_(parameters.values(), case["clip_norm"])
        for optimizer in of:
            with torch.no_grad():
                for group in optimizer.param_groups:
                    for p in group["params"]:
                        p.mul_(1 - group["lr"] * group.get("decoupled", 0.0))
            optimizer.step()
        if step + 1 in KEPT:
            kept |= {f"{step + 1}/{n}": p.detach().numpy().copy() for n, p in parameters.items()}
    return kept


def optimizer():
    rng = np.random.default_rng(5)
    shapes = {}
    for layer, shape in SHAPES.items():
        shapes[layer + "/weights"] = shape
        shapes[layer + "/biases"] = [shape[0] if len(shape) == 4 else shape[1]]
    initial = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    target = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    curvature = {n: rng.uniform(0.5, 2.0, shape).astype(np.float32) for n, shape in shapes.items()}
    golden = {}
    for name, value in (("initial", initial), ("target", target), ("curvature", curvature)):
        golden |= {f"{name}/{n}": v for n, v in value.items()}
    for name, case in CASES.items():
        kept = run(case, initial, target, curvature, torch.float32)
        exact = run(case, initial, target, curvature, torch.float64)
        error = max(np.abs(kept[n] - exact[n]).max() / np.abs(exact[n]).max() for n in kept)
        print(f"{name:<16} PyTorch's 32 bits from 64: {error:.1e}")
        assert error < 1e-5, name
        golden |= {f"{name}/{n}": value for n, value in kept.items()}
    return golden | smoothing(rng)


def smoothing(rng):
    """torch.nn.functional.cross_entropy with label_smoothing, the mean of a batch, and its gradient."""
    logits = torch.tensor(rng.normal(0, 3, (7, 10)).astype(np.float32), requires_grad=True)
    labels = torch.tensor(rng.integers(0, 10, 7))
    golden = {"smoothing/logits": logits.detach().numpy(), "smoothing/labels": labels.numpy()}
    for share in (0.0, 0.1, 0.25):
        loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=share)
        (gradient,) = torch.autograd.grad(loss, logits)
        golden |= {f"smoothing/{share}/loss": loss.detach().numpy().reshape(1),
                   f"smoothing/{share}/gradient": gradient.numpy()}
    return golden


def schedules():
    """Of 50 steps, 10 an epoch."""
    steps, images, batch = 50, 640, 64
    from torch.optim import lr_scheduler as lr

    def piecewise(knots, factors):
        return lambda optimizer: lr.LambdaLR(optimizer, lambda step: float(np.interp(step, knots, factors)))

    def warmed(schedule):
        return lambda optimizer: lr.ChainedScheduler([lr.LinearLR(optimizer, 0.25, 1.0, 8), schedule(optimizer)])

    cases = {
        "constant": ({"name": "constant"}, lambda o: lr.ConstantLR(o, 1.0)),
        "exponential": ({"optimizer": {"decay_factor": 0.5, "epochs_per_decay": 0.1}}, lambda o: lr.ExponentialLR(o, 0.5)),
        "staircase": ({"optimizer": {"decay_factor": 0.3, "epochs_per_decay": 0.7}}, lambda o: lr.StepLR(o, 7, 0.3)),
        "multistep": ({"name": "multistep", "knots": [2, 4.5], "factor": 0.2}, lambda o: lr.MultiStepLR(o, [20, 45], 0.2)),
        "cosine": ({"name": "cosine"}, lambda o: lr.CosineAnnealingLR(o, steps)),
        "cosine-to": ({"name": "cosine", "final_factor": 0.1}, lambda o: lr.CosineAnnealingLR(o, steps, 0.1 * 0.4)),
        "one_cycle": ({"name": "one_cycle", "interpolation": "cosine", "final_factor": 4e-6},
                      lambda o: lr.OneCycleLR(o, 0.4, total_steps=steps)),
        "one_cycle-linear": ({"name": "one_cycle", "peak": 24, "initial_factor": 0.2, "final_factor": 0.07},
                             lambda o: lr.OneCycleLR(o, 0.4, total_steps=steps, pct_start=0.24, anneal_strategy="linear",
                                                     div_factor=5, final_div_factor=0.2 / 0.07)),
        "piecewise": ({"name": "piecewise", "unit": "percent", "knots": [0, 24, 100], "factors": [0.2, 1, 0.07]},
                      piecewise([0, 12, 50], [0.2, 1, 0.07])),
        "warmup-cosine": ({"name": "cosine", "unit": "steps", "warmup": 8, "warmup_factor": 0.25},
                          warmed(lambda o: lr.CosineAnnealingLR(o, steps))),
        "warmup-multistep": ({"name": "multistep", "unit": "steps", "knots": [5, 30], "warmup": 8, "warmup_factor": 0.25},
                             warmed(lambda o: lr.MultiStepLR(o, [5, 30], 0.1))),
    }
    out = {}
    for name, (schedule, scheduler) in cases.items():
        schedule = dict(schedule)
        spec = {"train": {"steps": steps, "batch_size": batch},
                "optimizer": {"learning_rate": 0.4} | schedule.pop("optimizer", {})}
        if name == "exponential":
            spec["optimizer"]["staircase"] = False
        if schedule:
            spec["schedule"] = schedule
        parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([parameter], lr=0.4)
        scheduler, rates = scheduler(optimizer), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        out[name] = {"spec": spec, "images": images, "rates": rates}
    return out


def main():
    torch.set_num_threads(1)
    path = HERE / "optimizer.safetensors"
    save_file({key: np.ascontiguousarray(value) for key, value in optimizer().items()}, path)
    print(f"{path}: {path.stat().st_size} bytes")
    (HERE / "torch_schedules.json").write_text(json.dumps(schedules(), indent=1) + "\n")
    (HERE / "optimizer.json").write_text(json.dumps(CASES, indent=1) + "\n")


if __name__ == "__main__":
    main()
