"""What the trials of the real program beside `make test` share: what must hold, waiting, a small experiment, its checkpoints."""

import hashlib
import time

# Only something that never comes takes so many seconds.
PATIENCE = 300


class Violation(Exception):
    """Something that must not happen."""


def demand(condition, text):
    if not condition:
        raise Violation(text)


def wait_for(what, ask, seconds=PATIENCE):
    """What `ask` answers, once that is something."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        demand(time.monotonic() < end, f"waited {seconds} s in vain for {what}")
        time.sleep(0.1)


def small_spec(steps, checkpoint_every, compute=""):
    """A tiny network on images of its own, with what ranks may get wrong: lots that are drawn, and an update with a memory."""
    return f"""\
compute: {{device: cpu, threads: 1{compute}}}
data:
  source: synthetic
  folder: data
  synthetic: {{train_images: 500, test_images: 64}}
input: {{crop: 16, cutmix: 4}}
network:
  conv1: {{channels: 8, stddev: 0.05}}
  conv2: {{channels: 8, stddev: 0.05}}
  local3: {{units: 32}}
  local4: {{units: 16}}
optimizer: {{name: sgd, learning_rate: 0.05, momentum: 0.9}}
train: {{steps: {steps}, batch_size: 16, log_every: 1000, scalars_every: 1000, histograms_every: 1000, images_every: 1000,
  checkpoint_every: {checkpoint_every}, keep_checkpoints: 100000}}
"""


def runs(directory, name):
    """The runs of an experiment, the oldest first."""
    folder = directory / "runs" / name
    return sorted(run for run in folder.iterdir() if (run / "spec.yaml").exists()) if folder.exists() else []


def checkpoints(run):
    """The steps of a run's checkpoints."""
    return sorted(int(entry.name[5:]) for entry in (run / "checkpoints").glob("step-????????"))


def weights(run, step):
    """A digest of each group of tensors in a checkpoint."""
    folder = run / f"checkpoints/step-{step:08}"
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))}
