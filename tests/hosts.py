#!/usr/bin/env python3
"""Train one run on two hosts, and cut the cable between them: `make test-hosts`.

    hosts.py RUNBOARD DIRECTORY

The hosts are two network namespaces with a veth pair as the cable, a host name, a /etc/hosts and a directory each, and a second
network that has nothing to do with the run. Needs root, `ip` and `ss`. Nothing is left behind.

Exit code 0 if all held; else 1, and what was printed is kept in DIRECTORY.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from trial import Violation, checkpoints, demand, ended, runs, small_spec, start, status, wait_for, weights

SPEC = small_spec(steps=100000000, checkpoint_every=100, compute=", timeout_secs: 8")
PORT = 29500
# How long a host may take to notice that the other one is gone: the spec's timeout, what libtorch and the search for who is
# to blame take on top, and a busy machine.
NOTICED = 60


def say(text):
    print(f"hosts: {text}", flush=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Host:
    """A network namespace with a name of its own."""

    def __init__(self, number, runboard, directory):
        self.number = number
        self.name = f"runboard-{os.getpid()}-{number}"
        self.host = f"host-{number}"
        self.address = f"10.77.0.{number + 1}"
        self.foreign = f"10.99.{number}.1"
        self.runboard = runboard
        self.directory = directory / self.host
        self.etc = pathlib.Path("/etc/netns") / self.name
        self.commands = 0
        self.processes = []

    def start(self):
        (self.directory / "experiments").mkdir(parents=True)
        (self.directory / "experiments/small.yaml").write_text(SPEC)
        self.etc.mkdir(parents=True)
        # As Debian's installer writes it: a host's own name is an address that no other host reaches.
        first = "127.0.1.1" if self.number == 0 else "10.77.0.1"
        (self.etc / "hosts").write_text(f"127.0.0.1 localhost\n{first} host-0\n")
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", "foreign", "type", "veth", "peer", "name", "foreign-end")
        ip("-n", self.name, "address", "add", f"{self.foreign}/24", "dev", "foreign")
        ip("-n", self.name, "link", "set", "foreign-end", "up")
        ip("-n", self.name, "link", "set", "foreign", "up")

    def plug(self):
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "cable")
        ip("-n", self.name, "link", "set", "cable", "up")

    def cable(self, state):
        ip("-n", self.name, "link", "set", "cable", state)

    def inside(self, *command):
        return ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c",
                f'hostname {self.host}; exec "$@"', "sh", *command]

    def launch(self, command, *arguments):
        """Start the command of this host; its words go into a file."""
        self.commands += 1
        log = self.directory / f"output-{self.commands}.txt"
        options = ["--nnodes", "2", "--node-rank", str(self.number), "--rdzv-timeout", "30"]
        process = start(self.inside(str(self.runboard), command, "small", *options, *arguments), self.directory,
                        {**os.environ, "RUNBOARD_HOME": str(self.directory)}, log)
        self.processes.append(process)
        return process

    def listening(self):
        """The addresses at which anybody of this host listens."""
        lines = subprocess.run(self.inside("ss", "-ltnH"), check=True, capture_output=True, text=True).stdout
        return sorted({line.split()[3].rsplit(":", 1)[0] for line in lines.splitlines()})

    def pids(self):
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    def kill_all(self):
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self.processes:
            process.wait()

    def remove(self):
        self.kill_all()
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.etc, ignore_errors=True)
        try:
            self.etc.parent.rmdir()
        except OSError:
            pass  # others have namespaces, too

    def run(self):
        """The newest one."""
        return next(reversed(runs(self.directory, "small")), None)

    def checkpoints(self):
        run = self.run()
        return checkpoints(run) if run else []


def text(process):
    return process.log.read_text()


def another_run(host, former):
    wait_for("another run", lambda: host.run() != former)
    progress(host, 0, "a checkpoint of both hosts")


def progress(host, after, what):
    return wait_for(what, lambda: [step for step in host.checkpoints() if step > after])[-1]


def test(first, second):
    endpoint = ["--rdzv-endpoint", f"{first.host}:{PORT}"]
    say("a name that is loopback at home is refused, as it has two other addresses")
    refused = first.launch("run", *endpoint)
    ended(refused, 2, "rank 0 without --interface")
    demand("host-0:29500 is 127.0.1.1 on this host, where other hosts cannot connect; want --interface" in text(refused),
           text(refused))
    demand(not first.checkpoints() and first.run() is None, "a refused command made a run")

    say("two hosts train, and listen to one another alone")
    zero = first.launch("run", *endpoint, "--interface", "cable", "--quiet")
    one = second.launch("run", *endpoint)
    progress(first, 0, "a checkpoint of both hosts")
    for host in (first, second):
        demand(host.listening() == [host.address], f"{host.host} listens at {host.listening()}, want {host.address} alone")
    demand(not (second.directory / "runs").exists(), "the second host has a run directory")

    say("the cable is cut")
    second.cable("down")
    begin = time.monotonic()
    silent = "no answer from rank 1 on host-1 (pid "
    wait_for("what rank 0 says of it", lambda: silent in text(zero), NOTICED)
    gone = "rank 0 on host-0 (pid "
    wait_for("what rank 1 says of it", lambda: gone in text(one), NOTICED)
    say(f"both hosts know it after {time.monotonic() - begin:.0f} s")
    before = first.checkpoints()[-1]
    time.sleep(5)
    demand(first.checkpoints()[-1] == before, "rank 0 went on alone")

    say("the cable is put back")
    second.cable("up")
    progress(first, before, "a checkpoint after the cable is back")
    for host in (first, second):
        demand(host.listening() == [host.address], f"{host.host} listens at {host.listening()}, want {host.address} alone")

    say("the second host asks to stop")
    one_supervisor = [pid for pid in second.pids() if is_command(pid, "run")]
    for pid in one_supervisor:
        os.kill(pid, signal.SIGTERM)
    ended(zero, 143, "rank 0's host")
    ended(one, 143, "the second host")
    wait_for("an end of all processes", lambda: not first.pids() and not second.pids(), 30)
    last = first.checkpoints()[-1]

    say("no byte differs from a run that nothing has happened to")
    torn = first.run()
    steps = ["--set", f"train.steps={last + 1}"]
    whole = subprocess.run(
        [first.runboard, "run", "small", "--set", "compute.devices=[cpu, cpu]", *steps], cwd=first.directory,
        env={**os.environ, "RUNBOARD_HOME": str(first.directory)}, capture_output=True, text=True)
    demand(whole.returncode == 0, whole.stdout + whole.stderr)
    demand(weights(torn, last) == weights(first.run(), last), "the weights differ")

    say("a host that is gone for good ends the run")
    former = first.run()
    zero = first.launch("run", *endpoint, "--interface", "cable", "--quiet", "--set", "train.restarts=1")
    second.launch("run", *endpoint, "--set", "train.restarts=1")
    another_run(first, former)
    second.cable("down")
    second.kill_all()  # nobody hears of that: the power is off
    ended(zero, 1, "rank 0's host")
    for words in ("no answer from rank 1 on host-1 (pid ", "failed to meet the other ranks: rank 1 of 2 did not come within 30 s"):
        demand(words in text(zero), f"not said: {words}\n{text(zero)}")
    wait_for("an end of all processes", lambda: not first.pids(), 30)
    state = status(first.run())["process"]["state"]
    demand(state == "failed", f"the trainer's state is {state}")
    second.cable("up")

    say("with compute.elastic the first host goes on alone, and with the second one after a resume")
    former = first.run()
    elastic = ["--set", "compute.elastic=true"]
    zero = first.launch("run", *endpoint, "--interface", "cable", "--quiet", *elastic)
    second.launch("run", *endpoint, *elastic)
    another_run(first, former)
    second.cable("down")
    second.kill_all()
    ranks = lambda: status(first.run()).get("ranks")
    wait_for("training with one rank", lambda: ranks() == 1, NOTICED)
    progress(first, first.checkpoints()[-1], "a checkpoint of the first host alone")
    alone = "training goes on with 1 of 2 ranks, as compute.elastic says: rank 0 on host-0 (pid "
    wait_for("what rank 0 says of it", lambda: alone in text(zero), NOTICED)  # it is shown a moment later
    os.kill(next(pid for pid in first.pids() if is_command(pid, "run")), signal.SIGTERM)
    ended(zero, 143, "rank 0's host")
    second.cable("up")
    steps = ["--set", f"train.steps={first.checkpoints()[-1] + 500}"]
    zero = first.launch("resume", *endpoint, "--interface", "cable", "--quiet", *steps)
    one = second.launch("run", *endpoint, *elastic, *steps)
    ended(zero, 0, "rank 0's host")
    ended(one, 0, "the second host")
    demand(ranks() == 2, f"{ranks()} ranks trained after the resume")

    say("two ranks on each host, of which rank 0's host has another address for itself than the others have")
    more = ["--nproc-per-node", "2", "--set", "train.steps=500"]
    zero = first.launch("run", *endpoint, "--interface", "cable", "--quiet", *more)
    one = second.launch("run", *endpoint, *more)
    ended(zero, 0, "rank 0's host")
    ended(one, 0, "the second host")
    demand(ranks() == 4, f"{ranks()} ranks trained")

    say("an interface that is not where the endpoint is, is refused")
    refused = first.launch("run", "--rdzv-endpoint", f"{first.foreign}:{PORT}", "--interface", "cable")
    ended(refused, 2, "rank 0 at another interface")
    demand(f"--interface: got cable, whose address is {first.address}, but others look for rank 0 at {first.foreign}:{PORT} "
           f"({first.foreign}); want" in text(refused), text(refused))

    say("a first host that is gone for good ends the second")
    former = first.run()
    first.launch("run", *endpoint, "--interface", "cable", "--quiet")
    one = second.launch("run", *endpoint)
    another_run(first, former)
    second.cable("down")
    first.kill_all()
    ended(one, 1, "the second host")
    for words in ("rank 0 on host-0 (pid ", "rank 0 at host-0:29500 does not answer within 30 s"):
        demand(words in text(one), f"not said: {words}\n{text(one)}")
    wait_for("an end of all processes", lambda: not second.pids(), 30)


def is_command(pid, command):
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"runboard") and words[1:2] == [command.encode()]


def main():
    runboard, directory = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    if os.geteuid() != 0:
        sys.exit("hosts: want root, to make network namespaces")
    for command in ("ip", "ss", "unshare"):
        if not shutil.which(command):
            sys.exit(f"hosts: there is no {command}; want Debian's iproute2 and util-linux")
    shutil.rmtree(directory, ignore_errors=True)
    hosts = [Host(number, runboard, directory) for number in range(2)]
    try:
        for host in hosts:
            host.start()
        ip("link", "add", "cable", "netns", hosts[0].name, "type", "veth", "peer", "name", "cable", "netns", hosts[1].name)
        for host in hosts:
            host.plug()
        test(*hosts)
    except (Violation, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"hosts: FAILED: {error}\nhosts: {directory} has what was printed", flush=True)
        sys.exit(1)
    finally:
        for host in hosts:
            host.remove()
    shutil.rmtree(directory)
    say("all held")


if __name__ == "__main__":
    main()
