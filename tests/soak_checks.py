"""What must hold of a run that the soak has disturbed: it is what one is that was left alone."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

from tags import known, measured
from trial import Violation, demand

# Of the soak's experiment.
STEPS, CHECKPOINT_EVERY = 1000, 8


def checkpoints(run):
    directory = run / "checkpoints"
    return sorted(p for p in directory.glob("step-*") if p.suffix == "") if directory.exists() else []


def events(directory):
    """What TensorBoard's own reader finds in a directory."""
    script = pathlib.Path(__file__).with_name("read_events.py")
    done = subprocess.run([sys.executable, script, directory], capture_output=True, text=True)
    demand(done.returncode == 0, f"TensorBoard cannot read {directory}: {done.stderr}")
    return json.loads(done.stdout)


def in_force(run):
    """The journal's lines that no later one takes back."""
    lines = []
    for number, text in enumerate((run / "evaluations.jsonl").read_text().splitlines(), 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise Violation(f"evaluations.jsonl:{number}: {error}")
        lines = [earlier for earlier in lines if earlier["step"] < line["step"]] + [line]
    return lines


class Comparison:
    """A finished run, beside the reference: its training with a checkpoint of every step."""

    def __init__(self, project, run, reference, output, figures):
        self.project, self.run, self.reference = project, run, reference
        self.output = output  # what the run's sessions printed
        self.figures = figures

    def check(self):
        """Compare the finished run with the one that nobody disturbed."""
        self.project.wait_for_none()
        run = self.run
        logs = {name: (run / name).read_text(errors="replace") for name in ("train.log", "eval.log")}
        logs["the sessions' output"] = self.output.read_text(errors="replace")
        for name, text in logs.items():
            demand("panicked" not in text, f"{name} tells of a panic")
        for role in ("train", "eval", "supervisor"):
            status = json.loads((run / f"{role}.status.json").read_bytes())
            demand(status["process"]["state"] == "finished", f"{role}.status.json: {status}")
        table = self.project.runboard("list")
        rows = [line.split() for line in table.splitlines() if line.startswith("soak/")]
        want = ["finished", f"{STEPS}/{STEPS}"]
        demand(len(rows) == 1 and rows[0][1:3] == want, f"runboard list says:\n{table}")
        left = [path.name for path in run.rglob("*") if re.search(r"\.(tmp|old)$|^\.best-", path.name)]
        demand(not left, f"left behind: {left}")

        self.check_checkpoints(run, logs["train.log"])
        self.check_training(run, logs["train.log"])
        self.check_evaluations(run, logs["train.log"])
        self.figures["runs"] += 1
        self.figures["steps in the end"] += STEPS
        self.figures["steps taken"] += logs["train.log"].count(": step ")
        self.figures["checkpoints quarantined"] += logs["train.log"].count("it is quarantined as")
        self.figures["saves that the disk refused"] += logs["train.log"].count("warning: failed to save")

    def check_checkpoints(self, run, log):
        there = checkpoints(run)
        demand(there and there[-1].name == f"step-{STEPS - 1:08}", f"the last checkpoint is not there: {there}")
        names = {path.name for path in (run / "checkpoints").iterdir()}
        others = {name for name in names if not re.fullmatch(r"step-\d{8}(\.damaged)?|best", name)}
        demand(not others, f"in checkpoints/: {others}")
        for path in there:
            for name in ("weights.safetensors", "ema.safetensors", "momentum.safetensors", "state.json"):
                want = (self.reference / "checkpoints" / path.name / name).read_bytes()
                demand((path / name).read_bytes() == want, f"{path.name}/{name} has other bytes than the reference")
            self.figures["checkpoints compared"] += 1

    def check_training(self, run, log):
        got, want = events(run / "train"), events(self.reference / "train")
        # An event is all that a step shows.
        lost = sum(map(int, re.findall(r"(\d+) (?:were given up|could not be written)", log)))
        self.figures["events given up"] += lost
        demand(got["scalars"].keys() == want["scalars"].keys(), "the curves have other tags than the reference")
        missing = set()  # steps
        for tag, points in want["scalars"].items():
            steps = [step for step, _ in got["scalars"][tag]]
            demand(all(a < b for a, b in zip(steps, steps[1:])), f"{tag} goes back: {steps}")
            wanted = {step: None if measured(tag) else value for step, value in points}
            found = {step: None if measured(tag) else value for step, value in got["scalars"][tag]}
            other = [step for step in found if step not in wanted or found[step] != wanted[step]]
            demand(not other, f"{tag} has other points than the reference at steps {other}")
            missing |= wanted.keys() - found.keys()
            self.figures["points compared"] += len(found)
        demand(len(missing) <= lost, f"train/ misses steps {sorted(missing)}; {lost} events were said to be given up")
        self.figures["steps missing in curves"] += len(missing)
        if not missing:
            for kind in ("histograms", "images", "graph", "text", "custom_scalars"):
                demand(got[kind] == want[kind], f"train/ has other {kind} than the reference")

    def check_evaluations(self, run, log):
        lines = in_force(run)
        scored = {line["step"]: line for line in lines if "accuracy" in line}
        demand(STEPS - 1 in scored, "the last checkpoint has no score")
        due = set(range(0, STEPS, CHECKPOINT_EVERY)) | {int(path.name[5:]) for path in checkpoints(run)}
        refused = {int(step) for step in re.findall(r"failed to save checkpoint \S*step-(\d{8})", log)}
        given_up = {int(step) for step in re.findall(r"step-(\d{8}) is removed without an evaluation", log)}
        missing = due - refused - given_up - scored.keys()
        demand(not missing, f"not evaluated: {sorted(missing)}")
        self.figures["given up for want of an evaluator"] += len(given_up)
        # One that was saved when the run was stopped, and then damaged, need not be saved again.
        quarantined = {int(path.name[5:13]) for path in (run / "checkpoints").glob("step-*.damaged")}
        damaged = {line["step"] for line in lines} - scored.keys()
        demand(damaged <= quarantined, f"without a score, but not quarantined: {sorted(damaged - quarantined)}")
        self.figures["evaluations compared"] += len(scored)

        # The reference has a checkpoint of every step. Those that were evaluated here are evaluated there as well.
        truth = self.project.directory / "truth"
        shutil.rmtree(truth, ignore_errors=True)
        truth.mkdir()
        for name in ("spec.yaml", "train.status.json"):
            shutil.copy(self.reference / name, truth)
        for step in scored:
            name = f"checkpoints/step-{step:08}"
            shutil.copytree(self.reference / name, truth / name)
        self.project.runboard("eval", "--run", truth)
        lines = in_force(truth)
        demand({line["step"] for line in lines} == scored.keys(), "the reference has other steps")
        for line in lines:
            for key in ("accuracy", "raw_accuracy", "loss"):
                got = scored[line["step"]].get(key)
                demand(got == line.get(key), f"{key} at step {line['step']}: got {got}, want {line.get(key)}")
        got, want = events(run / "eval"), events(truth / "eval")
        # The reference has no supervisor that says how long it took.
        untimed = [{tag for tag in events["scalars"] if not measured(tag)} for events in (got, want)]
        demand(untimed[0] == untimed[1], "eval/ has other tags than the reference")
        for tag in untimed[0]:
            points = got["scalars"][tag]
            # A class that nothing was taken for has no precision there.
            steps, wanted = ([step for step, _ in curve] for curve in (points, want["scalars"][tag]))
            demand(steps == wanted, f"eval/ {tag} is at steps {steps}, want {wanted}")
            demand(points == want["scalars"][tag], f"eval/ {tag} differs from the reference")
        steps = [step for step, _ in got["scalars"][known("eval", "Precision @ 1")]]
        demand(steps == sorted(scored), f"eval/ is at steps {steps}, want {sorted(scored)}")
        for kind in ("histograms", "images", "pr_curves"):
            demand(got[kind] == want[kind], f"eval/ has other {kind} than the reference")
        state = got["scalars"][known("eval", "Overview/state")][-1][1]
        demand(state == 2, f"the state of a finished run is {state}, want 2")
