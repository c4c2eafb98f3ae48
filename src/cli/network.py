#!/usr/bin/env python3
"""The network of a run of runboard, in PyTorch: what network.json and weights.safetensors beside this file say.

    pip install torch safetensors pillow
    python network.py IMAGE...               the three most probable classes of each; --top N, --json

    import network
    config, model = network.load()           # the model is a torch.nn.Module in evaluation mode, on the CPU
    images = network.read("cat.png")[None]   # [n, 3, 32, 32], bytes
    network.probabilities(config, model, images)

It predicts what `runboard predict` does, to 1e-4: in float32, whatever compute.precision the run had.
"""
import argparse
import json
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
VERSION = 1


class Network(nn.Module):
    """The tutorial's network: two convolutions with pooling and normalisation, two dense layers, a linear one."""

    def __init__(self, config):
        super().__init__()
        network = config["network"]
        conv1, conv2 = network["conv1"], network["conv2"]
        self.pool, self.norm = network["pool"], network["norm"]
        side = config["input"]["crop"]
        for _ in range(2):
            side = -(-side // self.pool["stride"])
        self.conv1 = nn.Conv2d(3, conv1["channels"], conv1["kernel"], padding=conv1["kernel"] // 2)
        self.conv2 = nn.Conv2d(conv1["channels"], conv2["channels"], conv2["kernel"], padding=conv2["kernel"] // 2)
        self.local3 = nn.Linear(conv2["channels"] * side * side, network["local3"]["units"])
        self.local4 = nn.Linear(network["local3"]["units"], network["local4"]["units"])
        self.softmax_linear = nn.Linear(network["local4"]["units"], len(config["labels"]))

    def forward(self, x):
        """[n, 3, crop, crop], normalised -> logits, [n, classes]."""
        x = self.normalized(self.pooled(F.relu(self.conv1(x))))
        x = self.pooled(self.normalized(F.relu(self.conv2(x))))
        x = F.relu(self.local3(x.flatten(1)))
        x = F.relu(self.local4(x))
        return self.softmax_linear(x)

    def pooled(self, x):
        """Max-pooling with TensorFlow's SAME padding, of which the odd cell goes after."""
        size, stride = self.pool["size"], self.pool["stride"]
        side = x.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = total // 2, total - total // 2
        return F.max_pool2d(F.pad(x, (before, after, before, after), value=-torch.inf), size, stride)

    def normalized(self, x):
        """Local response normalisation: x / (bias + alpha * sum of x^2 over 2 * radius + 1 channels)^beta."""
        norm = self.norm
        if norm["name"] == "none":
            return x
        size = 2 * norm["radius"] + 1
        # PyTorch's alpha is that of the mean.
        return F.local_response_norm(x, size, alpha=norm["alpha"] * size, beta=norm["beta"], k=norm["bias"])


def load(directory=HERE):
    """What network.json in a directory says, and the network with the weights there."""
    from safetensors.torch import load_file

    directory = pathlib.Path(directory)
    config = json.loads((directory / "network.json").read_text(encoding="utf-8"))
    if config["version"] != VERSION:
        raise ValueError(f"{directory / 'network.json'}: got version {config['version']}, want {VERSION}")
    model = Network(config)
    model.load_state_dict(load_file(directory / "weights.safetensors"))
    return config, model.eval()


def read(path):
    """A picture as runboard reads it: the central square, on white where it is transparent, scaled to 32x32 bytes of red,
    green and blue, [3, 32, 32]."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        if image.mode == "I" or image.mode.startswith("I;16"):
            pixels = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
            pixels = (pixels.reshape(1, side, side) / 257).expand(3, -1, -1)  # of 16 bits
        elif image.has_transparency_data:
            pixels = planes(image.convert("RGBA"))
            alpha = pixels[3]
            pixels = (pixels[:3] * alpha + 255 * (255 - alpha) + 127).div(255, rounding_mode="floor")
        else:
            pixels = planes(image.convert("RGB"))
    return scaled(pixels.float(), 32)


def planes(image):
    """[channel, row, column], as integers that can be multiplied."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.reshape(image.height, image.width, -1).permute(2, 0, 1).int()


def scaled(pixels, side):
    """A square picture, [3, length, length], scaled by Lanczos' filter of three lobes."""
    length = pixels.shape[-1]
    if length != side:
        ratio = length / side
        scale = max(ratio, 1.0)
        centres = (torch.arange(side) + 0.5) * ratio - 0.5
        x = (torch.arange(length)[None] - centres[:, None]) / scale
        weights = torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)
        weights = weights / weights.sum(1, keepdim=True)
        pixels = weights @ pixels @ weights.T
    return pixels.round().clamp(0, 255).to(torch.uint8)


def views(config, images):
    """What the network sees of images, [n, 3, 32, 32] of bytes: (weight, [n, 3, crop, crop]) of each view."""
    crop = config["input"]["crop"]
    margin = 1
    padded = F.pad(images.double(), (margin,) * 4, mode="reflect")
    for view in config["input"]["views"]:
        top, left = view["top"] + margin, view["left"] + margin
        pixels = padded[:, :, top:top + crop, left:left + crop]
        if view["mirror"]:
            pixels = pixels.flip(3)
        yield view["weight"], normalized(config["input"], pixels).float()


def normalized(how, pixels):
    """Pixels of 0 to 255 as the network wants them."""
    if how["normalize"] == "image":
        deviation = pixels.std((1, 2, 3), correction=0, keepdim=True)
        floor = pixels[0].numel() ** -0.5
        return (pixels - pixels.mean((1, 2, 3), keepdim=True)) / deviation.clamp(min=floor)
    if how["normalize"] == "dataset":
        mean, deviation = (torch.tensor(how[it], dtype=torch.float64)[:, None, None] for it in ("mean", "deviation"))
        return (pixels - mean) / deviation
    return pixels


@torch.no_grad()
def probabilities(config, model, images):
    """Of each class, [n, classes]: by the logits that are averaged over the views of an image."""
    logits = sum(weight * model(view) for weight, view in views(config, images))
    return logits.double().softmax(1)


def main():
    parser = argparse.ArgumentParser(description="The most probable classes of pictures.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG files")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="how many classes to show (default: 3)")
    parser.add_argument("--json", action="store_true", help="as JSON, with the names of `runboard predict --json`")
    options = parser.parse_args()
    config, model = load()
    told, failed = [], False
    for path in options.images:
        try:
            found = probabilities(config, model, read(path)[None])[0]
        except (OSError, ValueError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            told.append({"image": path, "error": str(error)})
            failed = True
            continue
        best = found.sort(descending=True, stable=True)
        best = list(zip(best.indices.tolist(), best.values.tolist()))[:options.top]
        told.append({"image": path, "predictions": [
            {"class": config["labels"][label], "label": label, "probability": value} for label, value in best]})
        if not options.json:
            print("  ".join([path] + [f"{config['labels'][label]} {value:.3f}" for label, value in best]))
    if options.json:
        print(json.dumps({"run": config["run"], "step": config["step"], "images": told}, indent=2))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
