#!/usr/bin/env python3
"""Run runboard under a real Slurm: `make test-slurm`.

    slurm.py RUNBOARD DIRECTORY

Starts a cluster of this one node in DIRECTORY, with ports, folders and a munge of its own, runs jobs in it and takes it down.
Needs root and Debian's slurm-wlm and munge; no systemd and no cgroups.

Exit code 0 if all held; else 1, and what was printed is kept in DIRECTORY.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

from trial import (PATIENCE, Violation, checkpoints, demand, ended, free_port, last_weights, only_run, runs, small_spec, start,
                   status, wait_for)

SLURM_CONF = """\
ClusterName=runboard
SlurmctldHost={node}({address})
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is requeued may begin again after so many seconds.
AuthInfo=socket={directory}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=120
SlurmdParameters=config_overrides
NodeName={node} NodeAddr={address} CPUs=4 State=UNKNOWN
PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


def say(text):
    print(f"slurm: {text}", flush=True)


@contextlib.contextmanager
def cluster(directory):
    """The cluster's daemons; the environment by which commands find it."""
    for folder in ("state", "spool"):
        (directory / folder).mkdir()
    key = directory / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    conf = directory / "slurm.conf"
    conf.write_text(SLURM_CONF.format(
        node=socket.gethostname().split(".")[0], address="127.0.0.1", directory=directory, ctld_port=free_port(),
        slurmd_port=free_port()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"SLURM_CONF": str(conf), "RUNBOARD_HOME": str(directory)}
    munge = ["munged", "--force", "--foreground", f"--key-file={key}"]
    munge += [f"--{what}-file={directory}/munge.{what}" for what in ("log", "pid", "seed")]
    daemons = []
    try:
        for command, ready in (
                (munge + [f"--socket={directory}/munge.socket"], directory / "munge.socket"),
                (["slurmctld", "-D", "-f", str(conf)], None),
                (["slurmd", "-D", "-f", str(conf)], None)):
            output = open(directory / f"{command[0]}.txt", "w")
            daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment))
            if ready:
                wait_for(str(ready), ready.exists, 30)

        def idle():
            for daemon in daemons:
                demand(daemon.poll() is None, f"{daemon.args[0]} ended with {daemon.returncode}")
            state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
            return state.stdout.strip() == "idle"

        wait_for("a node that is idle", idle, 120)
        yield environment
    finally:
        subprocess.run(["scancel", "--signal=KILL", "--user=root"], env=environment, stderr=subprocess.DEVNULL)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


class Cluster:
    def __init__(self, runboard, directory, environment):
        self.runboard, self.directory, self.environment = str(runboard), directory, environment
        self.jobs = 0

    def start(self, *command):
        self.jobs += 1
        return start(command, self.directory, self.environment, self.directory / f"job-{self.jobs}.txt")

    def srun(self, tasks, *arguments):
        return self.start("srun", f"--ntasks={tasks}", "--cpus-per-task=1", self.runboard, *arguments)

    def run(self, *command):
        """What a command of Slurm's prints."""
        return subprocess.run(command, check=True, cwd=self.directory, env=self.environment, capture_output=True,
                              text=True).stdout

    def submit(self, *arguments):
        """The number of a job."""
        return self.run("sbatch", "--parsable", *arguments).strip()

    def state(self, job):
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()

    def points(self, name):
        """The runs of the only sweep of this name."""
        folder = self.directory / "runs" / name
        sweeps = [entry for entry in folder.iterdir() if (entry / "sweep.yaml").exists()] if folder.exists() else []
        demand(len(sweeps) < 2, f"want one sweep, got {sweeps}")
        return sorted(run for sweep in sweeps for run in sweep.iterdir() if (run / "spec.yaml").exists())

    def runs(self, name):
        return runs(self.directory, name)

    def only_run(self, name):
        return only_run(self.directory, name)


def test(cluster):
    for name in ("one", "other", "stopped", "whole", "alone", "data", "requeued"):
        (cluster.directory / f"experiments/{name}.yaml").write_text(small_spec(steps=200, checkpoint_every=50))
    # The images of all, which are generated once.
    subprocess.run([cluster.runboard, "run", "data", "--until", "1", "--quiet"], check=True, env=cluster.environment,
                   stdout=subprocess.DEVNULL)

    say("srun of two tasks is one run of two ranks, and so is another job beside it")
    jobs = {name: cluster.srun(2, "run", name, "--quiet") for name in ("one", "other")}
    for name, job in jobs.items():
        ended(job, 0, f"srun of {name}")
        run = cluster.only_run(name)
        demand(status(run)["ranks"] == 2, f"{name}: got {status(run)['ranks']} ranks, want 2")
    demand(last_weights(cluster.only_run("one")) == last_weights(cluster.only_run("other")), "two runs of one spec differ")
    subprocess.run([cluster.runboard, "run", "whole", "--set", "compute.devices=[cpu, cpu]", "--quiet"], check=True,
                   env=cluster.environment, stdout=subprocess.DEVNULL)
    demand(last_weights(cluster.only_run("one")) == last_weights(cluster.only_run("whole")), "srun's run has other bytes")

    say("scancel stops a run after a last checkpoint, and srun resumes it to the same bytes")
    job = cluster.srun(2, "run", "stopped", "--set", "train.steps=100000000", "--quiet")
    run = wait_for("a run", lambda: cluster.runs("stopped"))[0]
    wait_for("a checkpoint", lambda: len(checkpoints(run)) > 1)
    cluster.run("scancel", "--name=runboard")
    job.wait(timeout=PATIENCE)
    wait_for("the end of the job", lambda: not cluster.run("squeue", "-h").strip())
    state = status(run)["process"]["state"]
    demand(state == "stopped", f"after scancel the trainer is {state}:\n{job.log.read_text()}")
    demand(status(run)["step"] == checkpoints(run)[-1] + 1, "the last step is not saved")
    steps = f"train.steps={checkpoints(run)[-1] + 11}"
    ended(cluster.srun(2, "resume", "stopped", "--set", steps, "--quiet"), 0, "srun of resume")
    shutil.rmtree(cluster.directory / "runs/whole")
    ended(cluster.srun(2, "run", "whole", "--set", steps, "--quiet"), 0, "srun of the whole run")
    demand(last_weights(run) == last_weights(cluster.only_run("whole")), "the resumed run has other bytes")

    say("a batch script that starts one process trains with one")
    script = cluster.directory / "alone.sh"
    script.write_text(f"#!/bin/sh\nexec '{cluster.runboard}' run alone --quiet\n")
    ended(cluster.start("sbatch", "--wait", "--ntasks=2", "--output=alone.txt", str(script)), 0, "sbatch")
    demand(status(cluster.only_run("alone"))["ranks"] == 1, "a batch script's process was taken for one of several")

    say("a task that is killed is named, and the run goes on")
    job = cluster.srun(2, "run", "one", "--set", "train.steps=100000000")
    run = wait_for("a run", lambda: cluster.runs("one")[1:])[0]
    wait_for("a checkpoint", lambda: len(checkpoints(run)) > 1)
    rank = [pid for pid in pids() if command(pid)[1:2] == ["rank"] and str(cluster.directory) not in command(pid)[3]]
    demand(len(rank) == 1, f"want one process of rank 1, got {[command(pid) for pid in rank]}")
    os.kill(rank[0], signal.SIGKILL)
    before = checkpoints(run)[-1]
    wait_for("what rank 0 says of it", lambda: f"(pid {rank[0]}) is gone" in job.log.read_text())
    wait_for("progress", lambda: checkpoints(run)[-1] > before)
    cluster.run("scancel", "--name=runboard")
    job.wait(timeout=PATIENCE)

    say("SIGUSR1 saves, requeues the job, and the same run goes on to the same bytes")
    script = cluster.directory / "requeued.sh"
    script.write_text(f"#!/bin/sh\nexec srun --ntasks=2 '{cluster.runboard}' run requeued --set train.steps=2000 --quiet\n")
    job = cluster.submit("--requeue", "--ntasks=2", "--output=requeued.txt", "--open-mode=append", str(script))
    run = wait_for("a run", lambda: cluster.runs("requeued"))[0]
    wait_for("a checkpoint", lambda: len(checkpoints(run)) > 1)
    cluster.run("scancel", "--signal=USR1", job)
    wait_for("the job's end", lambda: cluster.state(job) == "COMPLETED")
    demand("Restarts=1 " in cluster.run("scontrol", "show", "job", "--oneliner", job), "it was not requeued")
    shutil.rmtree(cluster.directory / "runs/whole")
    ended(cluster.srun(2, "run", "whole", "--set", "train.steps=2000", "--quiet"), 0, "srun of the whole run")
    demand(last_weights(cluster.only_run("requeued")) == last_weights(cluster.only_run("whole")),
           "the requeued run has other bytes")


def test_sweep(cluster):
    spec = small_spec(steps=2000, checkpoint_every=50)
    (cluster.directory / "experiments/base.yaml").write_text(spec)
    points = "extends: base\nsweep:\n  seeds: 4\n"
    (cluster.directory / "experiments/local.yaml").write_text(points)
    options = "{slurm: {time: 30, options: [--nice=1]}}"
    (cluster.directory / "experiments/sweep.yaml").write_text(f"{points}  launcher: {options}\n")
    timed = "extends: base\ntrain: {steps: 100000000}\nsweep:\n  seeds: 2\n  launcher: {slurm: {time: 2}}\n"
    (cluster.directory / "experiments/timed.yaml").write_text(timed)

    say("a sweep's points are jobs, which a sweep that is killed finds again")
    for killed in range(3):
        sweep = cluster.start(cluster.runboard, "resume" if killed else "run", "sweep")
        wait_for("jobs that run", lambda: "RUNNING" in cluster.run("squeue", "-h", "-o", "%T"))
        if killed == 1:  # at another moment
            wait_for("a checkpoint", lambda: any(checkpoints(run) for run in cluster.points("sweep")))
        sweep.kill()
        sweep.wait()
    ended(cluster.start(cluster.runboard, "resume", "sweep"), 0, "the resumed sweep")
    ended(cluster.start(cluster.runboard, "run", "local"), 0, "a sweep on this machine")
    own, local = cluster.points("sweep"), cluster.points("local")
    demand(len(own) == len(local) == 4, f"want 4 points, got {len(own)} and {len(local)}")
    for point, other in zip(own, local):
        number = submission(point)["number"]
        demand(number == 1, f"{point.name} was submitted {number} times")
        demand(last_weights(point) == last_weights(other), f"{point.name} has other bytes than on this machine")

    say("a point whose time is up goes on in its requeued job, and Ctrl-C stops the jobs after a last checkpoint")
    sweep = cluster.start(cluster.runboard, "run", "timed")

    def jobs():
        found = [submission(point).get("job") for point in cluster.points("timed")]
        return found if len(found) == 2 and all(found) else None

    for job in wait_for("two jobs", jobs):
        wait_for("a requeue", lambda: "Restarts=0 " not in cluster.run("scontrol", "show", "job", "--oneliner", job))
        wait_for("a job that runs again", lambda: cluster.state(job) == "RUNNING")
    for point in cluster.points("timed"):
        before = checkpoints(point)[-1]
        wait_for("progress", lambda: checkpoints(point)[-1] > before)
    sweep.send_signal(signal.SIGINT)
    ended(sweep, 130, "the sweep that was stopped")
    for point in cluster.points("timed"):
        state = status(point)
        demand(state["process"]["state"] == "stopped", f"{point.name} is {state['process']['state']}")
        demand(state["step"] == checkpoints(point)[-1] + 1, f"the last step of {point.name} is not saved")

    say("a point that somebody cancels is left alone, and one that Slurm kills goes on in another job")
    sweep = cluster.start(cluster.runboard, "resume", "timed")
    first, second = cluster.points("timed")
    before = submission(first)["number"]

    def running(point):
        job = submission(point)["job"]
        return job if job and cluster.state(job) == "RUNNING" and status(point)["process"]["state"] == "running" else None

    wait_for("a job", lambda: running(first))
    # As the kernel does for want of memory.
    os.kill(json.loads((first / "supervisor.status.json").read_text())["process"]["pid"], signal.SIGKILL)
    wait_for("another job", lambda: submission(first)["number"] == before + 2)
    wait_for("it to run", lambda: running(first))
    for point in (first, second):
        cluster.run("scancel", wait_for("a job", lambda: running(point)))
    ended(sweep, 143, "the sweep whose jobs were cancelled")


def submission(point):
    """What is written down of a point's job; nothing before there is one."""
    record = point / "submission.json"
    return json.loads(record.read_text()) if record.exists() else {}


def pids():
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]


def command(pid):
    try:
        return [word.decode(errors="replace") for word in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []


def main():
    runboard, directory = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    if os.geteuid() != 0:
        sys.exit("slurm: want root, to start Slurm's daemons")
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "experiments").mkdir(parents=True)
    try:
        with cluster(directory) as environment:
            cluster_of_one = Cluster(runboard, directory, environment)
            test(cluster_of_one)
            test_sweep(cluster_of_one)
    except (Violation, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"slurm: FAILED: {error}\nslurm: {directory} has what was printed", flush=True)
        sys.exit(1)
    shutil.rmtree(directory)
    say("all held")


if __name__ == "__main__":
    main()
