#!/usr/bin/env python3
"""What TensorFlow makes of small inputs: the golden files that runboard's tests compare with.

Run by hand, after a change here, on the CPU; the files are committed:

    python3 -m venv .venv-tensorflow
    .venv-tensorflow/bin/pip install tensorflow-cpu==2.21.0 numpy==2.4.6 safetensors==0.8.0
    .venv-tensorflow/bin/python tests/reference/make_golden.py

The inputs follow from fixed seeds and the results are TensorFlow's own in 32 bits, so a second run on
the same machine writes the same bytes. Where a second opinion is cheap, the script also computes in
64 bits and prints how far TensorFlow is from that; it fails where that is more than 2e-5.

Layouts are runboard's: images and activations [n, row, column, channel], convolutions [out, in, row,
column], dense weights [in, out].

network.safetensors     CASE/ for each of CASES:
    settings              f64 [radius, bias, alpha, beta] of the normalisation, [pool size, stride] after
    images, labels        the batch
    initial/NAME          every parameter, NAME being layer/weights or layer/biases
    activations/LAYER     after each layer; sparsity/LAYER: their share of zeros
    loss/NAME             f64 total_loss, cross_entropy, local3/weight_loss, local4/weight_loss
    gradients/NAME        of the total loss, at the initial parameters
    weights-N/NAME        after N steps of gradient descent on the same batch; ema-N/NAME: their average
operations.safetensors
    lrn/I/, pool/I/       settings as above, input, output, upstream gradient, gradient
    average/              values; decay 0.9 from zero, plain and debiased
input.safetensors
    pixels                u8 [image, channel, row, column], as CIFAR-10 stores them
    distort/I/            draw: f64 [image, crop, top, left, mirror, brightness, contrast]; raw: the
                          distorted image; standardized: the same as the network's input; exact: in 64 bits
    central/CROP/         cropped, standardized, exact: all images, or the first
schedule.json             learning rate by step; decay of the average by number of updates
"""
import json
import os
import pathlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain kernels: the same sums on every machine
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

tf1 = tf.compat.v1
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
HERE = pathlib.Path(__file__).parent

TUTORIAL = dict(radius=4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
# (crop, normalisation, pool size and stride): the tutorial's, on a crop that pads as 24 does; and one
# where normalisation matters, padding has two sides and no factor is its default.
CASES = {
    "tutorial": (12, TUTORIAL, (3, 2)),
    "strong": (11, dict(radius=2, bias=1.5, alpha=0.4, beta=0.75), (3, 2)),
    "other": (11, dict(radius=9, bias=2.0, alpha=0.2, beta=0.6), (2, 3)),
}
DECAY = {"local3/weights": 0.004, "local4/weights": 0.004}


def off(what, got, want):
    """Tell how far TensorFlow's 32 bits are from 64, relative to the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)
    print(f"  {what:<44} {error:.1e}")
    return error


def agree(what, got, want, bound=2e-5):
    error = off(what, got, want)
    assert error < bound, f"{what}: TensorFlow is {error:.1e} from the 64-bit result"


def settings(norm=TUTORIAL, pool=(3, 2)):
    return np.array([norm["radius"], norm["bias"], norm["alpha"], norm["beta"], *pool], np.float64)


def lrn64(x, radius, bias, alpha, beta):
    """tf.nn.lrn's definition in 64 bits; TensorFlow's own takes 32 at most."""
    channels = x.shape[-1]
    near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= radius
    return x / (bias + alpha * tf.tensordot(x * x, tf.constant(near, x.dtype), 1)) ** beta


def lrn32(x, radius, **constants):
    return tf.nn.lrn(x, radius, **constants)


def inference(images, weights, norm, pool, lrn):
    """The tutorial's network: a dictionary of activations, in order."""
    def relu(x, layer):
        return tf.nn.relu(x + weights[layer + "/biases"])

    def pooled(x):
        return tf.nn.max_pool2d(x, pool[0], pool[1], "SAME")

    h = {}
    h["conv1"] = relu(tf.nn.conv2d(images, weights["conv1/weights"], 1, "SAME"), "conv1")
    h["pool1"] = pooled(h["conv1"])
    h["norm1"] = lrn(h["pool1"], **norm)
    h["conv2"] = relu(tf.nn.conv2d(h["norm1"], weights["conv2/weights"], 1, "SAME"), "conv2")
    h["norm2"] = lrn(h["conv2"], **norm)
    h["pool2"] = pooled(h["norm2"])
    flat = tf.reshape(h["pool2"], [tf.shape(images)[0], -1])
    h["local3"] = relu(flat @ weights["local3/weights"], "local3")
    h["local4"] = relu(h["local3"] @ weights["local4/weights"], "local4")
    h["softmax_linear"] = h["local4"] @ weights["softmax_linear/weights"] + weights["softmax_linear/biases"]
    return h


def losses(logits, labels, weights):
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    parts = {"cross_entropy": tf.reduce_mean(each)}
    for name, decay in DECAY.items():
        parts[name.replace("weights", "weight_loss")] = decay * tf.nn.l2_loss(weights[name])
    return {"total_loss": tf.add_n(list(parts.values())), **parts}


def initial(rng, crop, pool):
    """Weights that let every layer matter: activations and gradients of order 1."""
    side = -(-(-(-crop // pool[1])) // pool[1])
    shapes = {"conv1": [5, 5, 3, 8], "conv2": [5, 5, 8, 7], "local3": [side * side * 7, 12],
              "local4": [12, 9], "softmax_linear": [9, 10]}
    weights = {}
    for layer, shape in shapes.items():
        fan_in = np.prod(shape[:-1])
        gain = 0.5 if layer == "softmax_linear" else 1.4
        weights[layer + "/weights"] = (rng.standard_normal(shape) * gain / np.sqrt(fan_in)).astype(np.float32)
        weights[layer + "/biases"] = rng.normal(0.1, 0.1, shape[-1]).astype(np.float32)
    return weights


def ours(name, value):
    """A parameter in runboard's layout."""
    value = np.asarray(value, np.float32)
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def network():
    golden = {}
    for index, (case, (crop, norm, pool)) in enumerate(CASES.items()):
        print(f"network {case}: TensorFlow's 32 bits from 64")
        rng = np.random.default_rng(100 + index)
        weights = initial(rng, crop, pool)
        images = rng.standard_normal((3, crop, crop, 3)).astype(np.float32)
        labels = np.array([3, 0, 9], np.int64)
        out = {"settings": settings(norm, pool), "images": images, "labels": labels}
        out |= {f"initial/{name}": ours(name, value) for name, value in weights.items()}

        # As the tutorial builds it: one graph, its optimiser, its moving average.
        with tf.Graph().as_default(), tf1.Session() as session:
            step = tf1.train.get_or_create_global_step()
            variables = {name: tf1.get_variable(name, initializer=value) for name, value in weights.items()}
            activations = inference(tf.constant(images), variables, norm, pool, lrn32)
            loss = losses(activations["softmax_linear"], tf.constant(labels), variables)
            optimizer = tf1.train.GradientDescentOptimizer(0.1)
            pairs = optimizer.compute_gradients(loss["total_loss"], list(variables.values()))
            average = tf1.train.ExponentialMovingAverage(0.9999, step)
            with tf.control_dependencies([optimizer.apply_gradients(pairs, global_step=step)]):
                train = average.apply(list(variables.values()))
            zeros = {name: tf.nn.zero_fraction(value) for name, value in activations.items()}
            session.run(tf1.global_variables_initializer())
            tapped, lost, slopes, sparse = session.run(
                [activations, loss, dict(zip(variables, [g for g, _ in pairs])), zeros])
            out |= {f"activations/{name}": value for name, value in tapped.items()}
            out |= {f"sparsity/{name}": np.float64(value).reshape(1) for name, value in sparse.items()}
            out |= {f"loss/{name}": np.float64(value).reshape(1) for name, value in lost.items()}
            out |= {f"gradients/{name}": ours(name, value) for name, value in slopes.items()}
            for n in range(1, 6):
                session.run(train)
                if n in (1, 5):
                    now = session.run([variables, {k: average.average(v) for k, v in variables.items()}])
                    for kind, values in zip(("weights", "ema"), now):
                        out |= {f"{kind}-{n}/{name}": ours(name, value) for name, value in values.items()}

        # The second opinion.
        exact = {name: tf.Variable(value.astype(np.float64)) for name, value in weights.items()}
        mean = {name: value.astype(np.float64) for name, value in weights.items()}
        for n in range(1, 6):
            with tf.GradientTape() as tape:
                h = inference(tf.constant(images, tf.float64), exact, norm, pool, lrn64)
                loss = losses(h["softmax_linear"], labels, exact)
            gradients = tape.gradient(loss["total_loss"], exact)
            if n == 1:
                for name, value in h.items():
                    agree("activations/" + name, out["activations/" + name], value)
                for name, value in loss.items():
                    agree("loss/" + name, out["loss/" + name], value, 2e-6)
                for name, value in gradients.items():
                    agree("gradients/" + name, out["gradients/" + name], ours(name, value))
            for name, value in gradients.items():
                exact[name].assign_sub(0.1 * value)
                decay = min(0.9999, (1 + n) / (10 + n))
                mean[name] = decay * mean[name] + (1 - decay) * exact[name].numpy()
            if n in (1, 5):
                for name in exact:
                    agree(f"weights-{n}/{name}", out[f"weights-{n}/{name}"], ours(name, exact[name]))
                    agree(f"ema-{n}/{name}", out[f"ema-{n}/{name}"], ours(name, mean[name]))
        golden |= {f"{case}/{name}": value for name, value in out.items()}
    return golden


def operations():
    golden = {}
    rng = np.random.default_rng(7)

    print("local response normalisation: TensorFlow's 32 bits from 64")
    norms = [
        (8, TUTORIAL), (64, dict(radius=4, bias=1.0, alpha=0.3, beta=0.75)),
        (5, dict(radius=7, bias=0.5, alpha=1.0, beta=0.75)), (5, dict(radius=5, bias=2.0, alpha=0.7, beta=1.0)),
        (6, dict(radius=0, bias=1.0, alpha=0.5, beta=0.5)), (6, dict(radius=1, bias=1.0, alpha=2.0, beta=0.9)),
        (1, dict(radius=4, bias=1.0, alpha=0.5, beta=0.75)),
    ]
    for index, (channels, norm) in enumerate(norms):
        x = tf.constant(rng.normal(0, 2, (2, 3, 2, channels)), tf.float32)
        upstream = tf.constant(rng.standard_normal(x.shape), tf.float32)
        golden |= differentiated(f"lrn/{index}/", lambda x: lrn32(x, **norm), x, upstream, settings(norm))
        exact = differentiated("", lambda x: lrn64(x, **norm), tf.cast(x, tf.float64), tf.cast(upstream, tf.float64))
        for name in ("output", "gradient"):
            agree(f"lrn/{index}/{name}", golden[f"lrn/{index}/{name}"], exact[name])

    windows, sizes = [(3, 2), (2, 2), (3, 1), (2, 3)], [(7, 6), (8, 5), (4, 9), (1, 2)]
    pools = [(w, s, ties) for w in windows for s in sizes for ties in (False, True)]
    for index, (window, size, ties) in enumerate(pools):
        shape = (2, *size, 3)
        # Whole numbers have equal largest ones in a window: who gets the gradient then?
        x = rng.integers(0, 3, shape) if ties else rng.normal(-1, 1, shape)
        x = tf.constant(x, tf.float32)
        pool = lambda x: tf.nn.max_pool2d(x, window[0], window[1], "SAME")
        upstream = tf.constant(rng.standard_normal(pool(x).shape), tf.float32)
        golden |= differentiated(f"pool/{index}/", pool, x, upstream, settings(pool=window))

    # The tutorial's averages of the losses: from zero, plain. And as TensorFlow debiases them.
    values = rng.uniform(1, 5, 12).astype(np.float32)
    golden["average/values"] = values
    for name, debias in (("plain", False), ("debiased", True)):
        with tf.Graph().as_default(), tf1.Session() as session:
            value = tf1.placeholder(tf.float32, [])
            average = tf1.train.ExponentialMovingAverage(0.9, zero_debias=debias)
            with tf.control_dependencies([average.apply([value])]):
                now = average.average(value).read_value()
            session.run(tf1.global_variables_initializer())
            golden[f"average/{name}"] = np.array([session.run(now, {value: v}) for v in values], np.float32)
    return golden


def differentiated(prefix, f, x, upstream, constants=None):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    out = {"input": x, "output": y, "upstream": upstream, "gradient": tape.gradient(y, x, upstream)}
    out = {prefix + name: value.numpy() for name, value in out.items()}
    return out if constants is None else out | {prefix + "settings": constants}


def standardize64(x):
    x = np.asarray(x, np.float64)
    return (x - x.mean()) / max(x.std(), 1 / np.sqrt(x.size))


def inputs():
    print("input: TensorFlow's 32 bits from 64")
    rng = np.random.default_rng(11)
    rows, columns = np.mgrid[0:32, 0:32]
    smooth = np.stack([4 * rows + 3 * columns, 250 - 5 * rows, 60 + 2 * np.abs(rows - columns)])
    noise = rng.integers(0, 256, (3, 32, 32)) // np.array([1, 2, 4])[:, None, None]
    constant = np.full((3, 32, 32), 200)
    nearly = constant.copy()
    nearly[1, 15, 17] += 1  # deviation 1/sqrt(n): just below the floor
    faint = constant + rng.integers(0, 2, (3, 32, 32))  # deviation 1/2: above it
    pixels = np.stack([smooth, noise, constant, nearly, faint]).astype(np.uint8)
    golden = {"pixels": pixels}
    stored = pixels.transpose(0, 2, 3, 1).astype(np.float32)

    draws = [(0, 24, 0, 0, False, 0.0, 1.0), (0, 24, 8, 3, True, -63.0, 0.2), (1, 24, 4, 8, True, 62.5, 1.8),
             (1, 13, 2, 19, False, -20.25, 0.75), (2, 13, 1, 1, True, 31.0, 1.5), (3, 13, 8, 9, True, 31.0, 1.3),
             (4, 13, 7, 0, False, -10.5, 0.2)]
    for index, draw in enumerate(draws):
        image, crop, top, left, mirror, brightness, contrast = draw
        cut = stored[image][top:top + crop, left:left + crop]
        x = tf.constant(cut)
        x = tf.image.flip_left_right(x) if mirror else x
        x = tf.image.adjust_brightness(x, brightness)
        x = tf.image.adjust_contrast(x, contrast)
        y = tf.image.per_image_standardization(x)
        exact = cut.astype(np.float64)
        exact = (exact[:, ::-1] if mirror else exact) + brightness
        means = exact.mean((0, 1))
        exact = (exact - means) * np.float64(np.float32(contrast)) + means
        agree(f"distort/{index}/raw", x, exact)
        # Standardisation blows TensorFlow's rounding up where the image is nearly flat: told, not held.
        exact = standardize64(exact)
        off(f"distort/{index}/standardized", y, exact)
        golden |= {f"distort/{index}/draw": np.array(draw, np.float64), f"distort/{index}/raw": x.numpy(),
                   f"distort/{index}/standardized": y.numpy(), f"distort/{index}/exact": exact.astype(np.float32)}
    for crop, count in ((24, 5), (25, 1), (7, 5)):
        x = tf.image.resize_with_crop_or_pad(tf.constant(stored[:count]), crop, crop)
        y = tf.image.per_image_standardization(x)
        exact = np.stack([standardize64(image) for image in x])
        for image in range(count):
            off(f"central/{crop}/standardized, image {image}", y[image], exact[image])
        golden |= {f"central/{crop}/cropped": x.numpy().astype(np.uint8),
                   f"central/{crop}/standardized": y.numpy(), f"central/{crop}/exact": exact.astype(np.float32)}
    return golden


def schedule():
    drop = int(50000 / 128 * 350.0)
    steps = [0, 1] + [k * drop + d for k in (1, 2, 3) for d in (-2, -1, 0, 1)]
    rates = {s: float(tf1.train.exponential_decay(0.1, s, drop, 0.1, staircase=True)()) for s in steps}
    glide = {s: float(tf1.train.exponential_decay(0.1, s, drop, 0.1)()) for s in steps}
    # What TensorFlow leaves of a one when it averages it with a zero.
    decays = {}
    for n in (0, 1, 10, 100, 1000, 89_990, 1_000_000):
        with tf.Graph().as_default(), tf1.Session() as session:
            variable = tf1.get_variable("w", initializer=1.0)
            average = tf1.train.ExponentialMovingAverage(0.9999, n)
            update = average.apply([variable])
            session.run(tf1.global_variables_initializer())
            session.run(variable.assign(0.0))
            session.run(update)
            decays[n] = float(session.run(average.average(variable)))
    return {"images": 50000, "batch_size": 128, "epochs_per_decay": 350, "steps_per_drop": drop,
            "staircase": rates, "glide": glide, "ema_decay": decays}


def main():
    for name, tensors in (("network", network()), ("operations", operations()), ("input", inputs())):
        path = HERE / f"{name}.safetensors"
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
        print(f"{path}: {path.stat().st_size} bytes")
    path = HERE / "schedule.json"
    path.write_text(json.dumps(schedule(), indent=1) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
