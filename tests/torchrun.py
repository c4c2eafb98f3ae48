#!/usr/bin/env python3
"""Train under the real torchrun: `make test-torchrun`.

    torchrun.py RUNBOARD TORCHRUN DIRECTORY

Starts runboard by torchrun, on one host and on two that are both this one, lets torchrun start it again, and compares bytes.

Exit code 0 if all held; else 1, and what was printed is kept in DIRECTORY.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

from trial import (PATIENCE, Violation, checkpoints, demand, ended, free_port, last_weights, only_run, runs, small_spec, start,
                   status, wait_for)


def say(text):
    print(f"torchrun: {text}", flush=True)


class Trial:
    def __init__(self, runboard, torchrun, directory):
        self.runboard, self.torchrun, self.directory = runboard, torchrun, directory
        self.environment = {**os.environ, "RUNBOARD_HOME": str(directory)}
        self.started = []

    def start(self, *command):
        log = self.directory / f"output-{len(self.started)}.txt"
        process = start(command, self.directory, self.environment, log)
        self.started.append(process)
        return process

    def launch(self, options, *arguments):
        return self.start(self.torchrun, *options, "--no-python", str(self.runboard), *arguments)

    def only_run(self, name):
        return only_run(self.directory, name)

    def end_all(self):
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


def environment(pid):
    return pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")


def test(trial):
    for name in ("whole", "one", "two", "static", "again", "other"):
        (trial.directory / f"experiments/{name}.yaml").write_text(small_spec(steps=200, checkpoint_every=50))
    ended(trial.start(str(trial.runboard), "run", "whole", "--set", "compute.devices=[cpu, cpu]", "--quiet"), 0, "the whole run")
    whole = last_weights(trial.only_run("whole"))

    def same_bytes(name):
        run = trial.only_run(name)
        demand(status(run)["ranks"] == 2, f"{name}: got {status(run)['ranks']} ranks, want 2")
        demand(last_weights(run) == whole, f"{name} has other bytes than two processes that one has started")

    say("torchrun on one host")
    ended(trial.launch(["--standalone", "--nproc-per-node", "2"], "run", "one", "--quiet"), 0, "torchrun")
    same_bytes("one")

    say("two hosts, whose torchruns meet by c10d")
    port = free_port()
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "two",
            "--rdzv-endpoint", f"localhost:{port}"]
    for process in [trial.launch(meet, "run", "two", "--quiet") for _ in range(2)]:
        ended(process, 0, "torchrun")
    same_bytes("two")

    say("two hosts, whose torchruns have numbers")
    port = free_port()
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    for process in [trial.launch([*meet, "--node-rank", str(rank)], "run", "static", "--quiet") for rank in range(2)]:
        ended(process, 0, "torchrun")
    same_bytes("static")

    say("a process that is killed: torchrun starts all again, and the same run goes on")
    launched = trial.launch(["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"], "run", "again",
                            "--set", "train.steps=600")
    run = wait_for("a run", lambda: runs(trial.directory, "again"))[0]
    wait_for("a checkpoint", lambda: len(checkpoints(run)) > 1)
    victims = [pid for pid in children(launched.pid) if "RANK=1" in environment(pid)]
    demand(len(victims) == 1, f"want one process of rank 1, got {victims}")
    os.kill(victims[0], signal.SIGKILL)
    ended(launched, 0, "torchrun")
    demand("goes on with again/" in launched.log.read_text(), "it did not say that it goes on with the run")
    ended(trial.start(str(trial.runboard), "run", "other", "--set", "compute.devices=[cpu, cpu]", "--set", "train.steps=600",
                      "--quiet"), 0, "the other run")
    demand(last_weights(trial.only_run("again")) == last_weights(trial.only_run("other")), "the run has other bytes")

    say("SIGTERM to torchrun stops the run after a last checkpoint")
    launched = trial.launch(["--standalone", "--nproc-per-node", "2"], "run", "one", "--set", "train.steps=100000000")
    run = wait_for("another run", lambda: runs(trial.directory, "one")[1:])[0]
    wait_for("a checkpoint", lambda: len(checkpoints(run)) > 1)
    launched.terminate()
    launched.wait(timeout=PATIENCE)
    wait_for("the end of the trainer", lambda: status(run)["process"]["state"] != "running")
    demand(status(run)["process"]["state"] == "stopped", f"the trainer is {status(run)['process']['state']}")
    demand(status(run)["step"] == checkpoints(run)[-1] + 1, "the last step is not saved")


def children(parent):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text()
        except (OSError, NotADirectoryError):
            continue
        if int(stat.rsplit(")", 1)[1].split()[1]) == parent:
            found.append(int(entry.name))
    return found


def main():
    runboard, torchrun, directory = (pathlib.Path(argument).absolute() for argument in sys.argv[1:4])
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "experiments").mkdir(parents=True)
    trial = Trial(runboard, torchrun, directory)
    try:
        test(trial)
    except (Violation, subprocess.TimeoutExpired) as error:
        print(f"torchrun: FAILED: {error}\ntorchrun: {directory} has what was printed", flush=True)
        sys.exit(1)
    finally:
        trial.end_all()
    shutil.rmtree(directory)
    say("all held")


if __name__ == "__main__":
    main()
