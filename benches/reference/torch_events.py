#!/usr/bin/env python3
"""Event writing by torch.utils.tensorboard, to be timed beside runboard's (benches/events.rs).

    pip install torch==2.11.0 numpy tensorboard==2.21.0 'setuptools<81'
    torch_events.py --out DIR --scalars N --histograms N --values N

Prints the seconds that scalars, and then histograms of so many values, take from opening the writer to closing it, a line
each. Loading the libraries and making the values is not in them.
"""
import argparse
import os
import time

import numpy as np
from torch.utils.tensorboard import SummaryWriter

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
for option in ("--scalars", "--histograms", "--values"):
    parser.add_argument(option, type=int, required=True)
options = parser.parse_args()


def timed(name, count, write):
    begin = time.perf_counter()
    writer = SummaryWriter(os.path.join(options.out, name))
    for step in range(count):
        write(writer, step)
    writer.close()
    print(time.perf_counter() - begin, flush=True)


values = np.random.default_rng(1).normal(0, 0.04, options.values).astype(np.float32)
timed("scalars", options.scalars, lambda writer, step: writer.add_scalar("loss", 1 / (step + 1), step))
timed("histograms", options.histograms, lambda writer, step: writer.add_histogram("weights", values, step))
