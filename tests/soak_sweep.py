"""A sweep that is disturbed, resumed until it is finished, and compared with one that was left alone: a part of soak.py."""

import hashlib
import json
import random
import signal
import time

from trial import demand

# Four settings, of which halving stops two after 20 steps and one after 40.
SPEC = """\
extends: soak
train: {steps: 80, checkpoint_every: 10, keep_every: 0, restarts: 1000}
sweep:
  parameters: {optimizer.learning_rate: [0.01, 0.02, 0.05, 0.1]}
  metric: {name: loss, goal: minimize, of: last}
  early_terminate: {type: halving, min_iter: 20, eta: 2}
  parallel: 2
"""
PATIENCE = 600  # s
# 0; 1 of points that could not be started for kills; 2 of one that is about to end; 128 + a signal.
GOOD_CODES = {0, 1, 129, 130, 143}


def found(sweep):
    """All of a finished sweep that must not depend on what was done to it."""
    rows = [row.split(",") for row in (sweep / "results.csv").read_text().splitlines()]
    timed = rows[0].index("minutes")
    points = {}
    for spec in sorted(sweep.glob("*/spec.yaml")):
        last = max((spec.parent / "checkpoints").glob("step-????????"))
        files = [path for path in sorted(last.iterdir()) if path.suffix == ".safetensors" or path.name == "state.json"]
        lines = [json.loads(line) for line in (spec.parent / "evaluations.jsonl").read_text().splitlines()]
        points[spec.parent.name] = {
            "last": last.name,
            "weights": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
            "scores": {line["step"]: (line.get("accuracy"), line.get("loss")) for line in lines},
        }
    return {
        "decisions": (sweep / "decisions.jsonl").read_text(),
        "table": [row[:timed] + row[timed + 1 :] for row in rows],
        "points": points,
    }


def only(project):
    return next(iter(sorted(path.parent for path in project.directory.glob("runs/soak-sweep/*/sweep.yaml"))), None)


def undisturbed(project):
    """What a sweep comes to that is left alone."""
    (project.directory / "experiments/soak-sweep.yaml").write_text(SPEC)
    project.runboard("run", "soak-sweep")
    return found(only(project))


class SweepSoak:
    """One sweep, and what is done to it."""

    def __init__(self, project, seed, figures):
        self.project, self.figures = project, figures
        self.random = random.Random(seed)
        self.output = project.directory / "sweep-sessions.log"

    def disturb(self):
        """Kill or stop a process of it, or all."""
        everyone = [process for them in self.project.processes().values() for process in them]
        number = self.random.choice([signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGHUP])
        if everyone and self.random.random() < 0.7:
            everyone = [self.random.choice(everyone)]
        for process in everyone:
            process.send(number)
            self.figures[f"{number.name} in a sweep"] += 1

    def go(self, seconds):
        """Run and resume it until it is finished, disturbed for so many seconds."""
        until = time.monotonic() + seconds
        self.output.write_bytes(b"")
        while True:
            with open(self.output, "ab") as log:
                arguments = ["resume", "soak-sweep", "--retry-failed"] if only(self.project) else ["run", "soak-sweep"]
                process = self.project.start(arguments, log)
            self.figures["sessions of a sweep"] += 1
            while process.poll() is None:
                demand(time.monotonic() < until + PATIENCE, "the sweep does not come to its end")
                time.sleep(self.random.expovariate(1))
                if time.monotonic() < until:
                    self.disturb()
            code = process.returncode
            demand(code in GOOD_CODES or code < 0, f"a session of a sweep ended with {code}:\n{self.output.read_text()[-3000:]}")
            if code == 0 and time.monotonic() >= until:
                return

    def check(self, reference):
        own = found(only(self.project))
        self.same("points of the sweep", sorted(own["points"]), sorted(reference["points"]))
        for name, point in reference["points"].items():
            other = own["points"][name]
            # A stop saves a checkpoint more, which is scored as well.
            other["scores"] = {step: other["scores"].get(step) for step in point["scores"]}
            for what, value in point.items():
                self.same(f"{what} of {name}", other[what], value)
        for what in ["decisions", "table"]:
            self.same(f"{what} of the sweep", own[what], reference[what])

    def same(self, what, own, reference):
        demand(own == reference, f"{what}: got {own}, want {reference}")
