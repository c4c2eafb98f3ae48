"""What the trials of the real program beside `make test` share: what must hold, waiting, processes, a small experiment, runs."""

import hashlib
import json
import socket
import subprocess
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


def free_port():
    """A port of loopback that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(command, directory, environment, log):
    """A process that works in a directory, and whose words go into a file, its `log`."""
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    process.log = log
    return process


def ended(process, code, what):
    """Wait until a process ends that was started by `start`, which must be with this exit code."""
    got = process.wait(timeout=PATIENCE)
    demand(got == code, f"{what} ended with {got}, want {code}:\n{process.log.read_text()}")


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


def only_run(directory, name):
    found = runs(directory, name)
    demand(len(found) == 1, f"want one run of {name}, got {[run.name for run in found]}")
    return found[0]


def status(run):
    """What a run's trainer says of itself."""
    return json.loads((run / "train.status.json").read_text())


def checkpoints(run):
    """The steps of a run's checkpoints."""
    return sorted(int(entry.name[5:]) for entry in (run / "checkpoints").glob("step-????????"))


def weights(run, step):
    """A digest of each group of tensors in a checkpoint."""
    folder = run / f"checkpoints/step-{step:08}"
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))}


def last_weights(run):
    return weights(run, checkpoints(run)[-1])
