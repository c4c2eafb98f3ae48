#!/usr/bin/env python3
"""Disturb runs at random for some minutes, and check that nothing is lost: `make soak`.

    soak.py RUNBOARD DIRECTORY [--minutes 15] [--seed N]

Runs one small experiment after the other in DIRECTORY, on a small disk in memory where this user may mount one.
While a run is at work its processes are killed, stopped, frozen, doubled and copied and its disk is filled; between its
sessions its newest checkpoint is damaged, and it is refused with other data; and it is resumed until it is finished.
Then it must be what a run of the same spec is that nobody disturbed. Every third time it is a sweep with successive halving
whose processes are killed and stopped, which must come to the same points, scores and decisions. All moments and deeds follow from the seed, as far
as the machine's speed lets them.

Exit code 0 if all runs held, 1 if one did not: it is kept, with all that its sessions printed.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import soak_sweep
from soak_checks import CHECKPOINT_EVERY, STEPS, Comparison, checkpoints
from trial import Violation, demand

# conv2 keeps its 5 x 5 kernel, for which the CPU has its own convolutions.
SPEC = f"""\
compute: {{device: cpu, threads: 1}}
data:
  source: synthetic
  folder: data
  synthetic: {{train_images: 500, test_images: 64}}
input: {{crop: 16}}
network:
  conv1: {{channels: 8, stddev: 0.05}}
  conv2: {{channels: 8, stddev: 0.05}}
  local3: {{units: 32}}
  local4: {{units: 16}}
  dropout: 0.1
optimizer: {{learning_rate: 0.05, momentum: 0.9, nesterov: true}}
schedule: {{name: piecewise, unit: percent, knots: [0, 10, 100], factors: [0.2, 1, 0.1]}}
average: {{every: 3}}
train: {{steps: {STEPS}, batch_size: 64, log_every: 1, scalars_every: 1, histograms_every: 20, images_every: 100,
  checkpoint_every: {CHECKPOINT_EVERY}, keep_checkpoints: 3, keep_every: 200}}
eval: {{interval_secs: 0.1, batch_size: 64}}
"""
RECORD = 1 + 3 * 32 * 32  # an image in the files of the data: label and pixels
DISK = "96m"  # an evaluation takes 240 kB of it, for its pictures

# Longer than anything here takes on a slow machine; only a hang reaches it.
PATIENCE = 600  # s
DISTURBED = (75, 110)  # s of a run, after which it is left to finish
PAUSE = 1.0  # s between two deeds, on average

# Exit codes that a disturbed run may have: 0, 128 + the signal that it was stopped by or that killed a child.
# Others need a reason.
GOOD_CODES = {0, 129, 130, 143, 137}


class Disk:
    """A disk in memory, that can be filled, or else the directory's own, which is not."""

    def __init__(self, path, size):
        shutil.rmtree(path, ignore_errors=True)
        self.path, self.filler = path, path / "filler"
        path.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        self.own = "SOAK_NAMESPACE" in os.environ and subprocess.run(mount).returncode == 0
        self.full = False

    def fill(self):
        self.full = True
        with open(self.filler, "ab", buffering=0) as file:
            # Byte by byte at the end, so that no corner is left.
            for piece in [1 << 16, 1 << 8, 1]:
                try:
                    while file.write(bytes(piece)):
                        pass
                except OSError:
                    pass

    def free(self):
        self.full = False
        self.filler.unlink(missing_ok=True)


class Process:
    """A process by its id and its start, which no later process shares."""

    def __init__(self, pid):
        self.pid, self.start = pid, stat(pid)[1]

    def alive(self):
        state, start = stat(self.pid)
        return start == self.start and state not in ("Z", "X", None)

    def send(self, number):
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def stat(pid):
    """State and start of a process, None for one that is not there."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None, None
    fields = text.rpartition(") ")[2].split()
    return fields[0], fields[19]


class Project:
    """A directory with the experiment and its images, to run runboard in."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        (directory / "experiments").mkdir(parents=True, exist_ok=True)
        (directory / "experiments/soak.yaml").write_text(SPEC)

    def start(self, arguments, output):
        def prepare():
            # Not those that a shell may have set for this script.
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        return subprocess.Popen(
            [self.binary, *map(str, arguments)], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, preexec_fn=prepare, start_new_session=True,
        )  # fmt: skip

    def runboard(self, *arguments):
        """Run it to its end, which must be a good one; what it printed."""
        done = subprocess.run(
            [self.binary, *map(str, arguments)], cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE
        )
        demand(done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def processes(self):
        """runboard's processes in this directory, by what they do."""
        found = collections.defaultdict(list)
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                here = (entry / "cwd").readlink() == self.directory
            except OSError:
                continue  # another user's, or gone
            if here and words[0] == str(self.binary) and len(words) > 1:
                role = {"run": "supervisor", "resume": "supervisor"}.get(words[1], words[1])
                found[role].append(Process(int(entry.name)))
        return found

    def wait_for_none(self):
        end = time.monotonic() + PATIENCE
        while left := self.processes():
            pids = {role: [process.pid for process in them] for role, them in left.items()}
            demand(time.monotonic() < end, f"processes that nobody supervises are left: {pids}")
            time.sleep(0.05)


def whole(checkpoint):
    """Whether a checkpoint is what its manifest says."""
    try:
        files = json.loads((checkpoint / "manifest.json").read_bytes())["files"]
        return all(hashlib.sha256((checkpoint / n).read_bytes()).hexdigest() == files[n]["sha256"] for n in files)
    except (OSError, ValueError):
        return False


class Soak:
    """One run: disturbed, resumed until it is finished, and checked."""

    def __init__(self, project, disk, seed, figures):
        self.project, self.disk, self.seed, self.figures = project, disk, seed, figures
        self.random = random.Random(seed)
        self.output = project.directory / "sessions.log"
        self.later = []  # (moment, what is to be undone then)
        self.hurt = self.filled = False  # in this session: the supervisor was signalled; the disk was full

    def run(self):
        """The run's directory, once it is one."""
        return next(iter(sorted(path.parent for path in self.disk.path.glob("soak/*/spec.yaml"))), None)

    def count(self, what):
        self.figures[what] += 1

    # Deeds

    def someone(self, *roles):
        role = self.random.choice(roles or ("supervisor", "train", "eval"))
        them = self.project.processes().get(role)
        return role, them[0] if them else None

    def kill(self):
        everyone = self.random.random() < 0.15
        role, process = self.someone("train", "train", "train", "eval", "eval", "supervisor", "supervisor")
        victims = self.project.processes() if everyone else {role: [process] if process else []}
        for role, them in victims.items():
            for process in them:
                process.send(signal.SIGKILL)
                self.hurt |= role == "supervisor"
                self.count(f"SIGKILL {role}")
                run = self.run()
                if role == "train" and run and any((run / "checkpoints").glob("*.tmp")):
                    self.count("SIGKILL train while it saved")

    def stop(self):
        """One or two signals that ask to end, to one process or, as from killall, to all."""
        number = self.random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        everyone = self.random.random() < 0.3
        role, process = self.someone("supervisor", "supervisor", "train", "eval")
        for turn in range(self.random.choice([1, 1, 2])):
            them = self.project.processes() if everyone else {role: [process] if process else []}
            for role, victims in them.items():
                for victim in victims:
                    victim.send(number)
                    self.hurt |= role == "supervisor"
                    self.count(f"{number.name} {role}" + (" again" if turn else ""))
            time.sleep(self.random.random() * 0.3)

    def freeze(self):
        role, process = self.someone()
        if process:
            process.send(signal.SIGSTOP)
            self.count(f"SIGSTOP {role}")
            self.undo(self.random.uniform(0.5, 5), lambda: process.send(signal.SIGCONT))

    def fill(self):
        if self.disk.own and not self.disk.full:
            self.disk.fill()
            self.count("disk full")
            self.undo(self.random.uniform(0.5, 8), self.disk.free)

    def double(self):
        """A second process of a kind must be refused for as long as the first one lives."""
        role, first = self.someone()
        run = self.run()
        if not first or not run or not (run / f"{role}.status.json").exists():
            return
        try:
            holder = json.loads((run / f"{role}.status.json").read_bytes())["process"]
        except (OSError, ValueError) as error:
            raise Violation(f"{role}.status.json: {error}")
        if holder["pid"] != first.pid or holder["state"] != "running":
            return  # it may not have its lock yet, or no longer
        arguments = {"supervisor": ["resume", run], "train": ["train", "--run", run], "eval": ["eval", "--run", run]}
        with open(self.project.directory / "second.log", "w+") as log:
            second = self.project.start(arguments[role], log)
            end = time.monotonic() + PATIENCE
            while second.poll() is None and first.alive() and time.monotonic() < end:
                time.sleep(0.02)
            refused = second.poll() == 2
            if not refused and second.poll() is None:
                if first.alive():
                    second.kill()
                    raise Violation(f"a second {role} beside the first one is not refused")
                second.terminate()  # the first one has just ended; this one must give way
                second.wait(PATIENCE)
            log.seek(0)
            said = log.read()
        demand("panicked" not in said, said)
        if refused:
            demand(" is already running (" in said, f"a second {role} was refused for another reason: {said}")
            self.count(f"second {role} refused")
        else:
            demand(not first.alive(), f"a second {role} ended with {second.returncode} beside the first: {said}")

    def copy(self):
        """A copy of the run's directory is not running, and to stop it leaves the run alone."""
        run, (_, supervisor) = self.run(), self.someone("supervisor")
        if not run or not supervisor:
            return
        copy = self.project.directory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", run, copy], capture_output=True)  # without what vanishes meanwhile
        if (copy / "spec.yaml").exists():
            said = self.project.runboard("stop", copy)
            demand(" is not running" in said, f"the copy of a run that is running: {said}")
            self.count("copied run left alone")

    def damage(self):
        """Damage the newest checkpoint, if there is an older one that is whole."""
        there = checkpoints(self.run())
        if len(there) < 2 or not any(whole(path) for path in there[:-1]):
            return
        path = self.random.choice(sorted(there[-1].iterdir()))
        deed = self.random.choice(["cut", "flipped", "removed"])
        if deed == "removed":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            place = self.random.randrange(len(data))
            if deed == "cut":
                del data[place:]
            else:
                data[place] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)
        self.count(f"{path.name} {deed}")

    def change_data(self):
        """With another label or other pixels the run must not be resumed, and must name what differs."""
        run = self.run()
        if not (run / "data.json").exists():
            return  # it was killed before it had seen its data
        path = self.random.choice(sorted((self.project.directory / "data").glob("*/*_batch*.bin")))
        data = path.read_bytes()
        record = self.random.randrange(len(data) // RECORD) * RECORD
        part = self.random.choice(["label", "pixels"])
        place, size = (record, 1) if part == "label" else (record + 1, RECORD - 1)
        other = bytes((byte + 1) % 10 for byte in data[place : place + size])
        try:
            path.write_bytes(data[:place] + other + data[place + size :])
            done = subprocess.run(
                [self.project.binary, "resume", run], cwd=self.project.directory, capture_output=True, text=True,
                timeout=PATIENCE,
            )  # fmt: skip
        finally:
            path.write_bytes(data)
        said = [f"{path.parent.name} holds other data than soak/{run.name}", f"{path.name} has "]
        refused = done.returncode == 2 and all(words in done.stderr for words in said)
        demand(refused, f"other {part} in {path.name}: exit code {done.returncode}\n{done.stderr}")
        self.count(f"other {part} refused")

    def undo(self, after, what):
        self.later.append((time.monotonic() + after, what))

    def undo_due(self, all_of_it=False):
        for entry in list(self.later):
            if all_of_it or entry[0] <= time.monotonic():
                self.later.remove(entry)
                entry[1]()
        if self.disk.full:
            self.disk.fill()  # what was removed meanwhile made room

    # The run

    def go(self, seconds):
        """Run and resume until it is finished, disturbed for so many seconds."""
        until = time.monotonic() + seconds
        deeds = [self.kill] * 6 + [self.stop] * 3 + [self.fill] * 3 + [self.freeze] * 2 + [self.double] * 2 + [self.copy]
        self.output.write_bytes(b"")
        while self.session(until, deeds) != 0:
            demand(time.monotonic() < until + PATIENCE, "the run does not come to its end")
            at_once = self.random.random() < 0.2  # its children may still be there
            if not at_once or time.monotonic() > until:
                self.undo_due(all_of_it=not self.disk.full or time.monotonic() > until)
                self.project.wait_for_none()
            if self.run() and time.monotonic() < until and not self.project.processes():
                if self.random.random() < 0.4 and not self.disk.full:
                    self.damage()
                if self.random.random() < 0.3 and not self.disk.full:
                    self.change_data()
        self.undo_due(all_of_it=True)

    def session(self, until, deeds):
        """One session of the supervisor. Returns its exit code."""
        run = self.run()
        arguments = ["resume", run] if run else ["run", "soak"]
        begin = self.output.stat().st_size
        self.hurt, self.filled = False, self.disk.full
        with open(self.output, "ab") as log:
            process = self.project.start(arguments, log)
        self.count("sessions")
        due = time.monotonic() + self.random.expovariate(1 / PAUSE)
        while process.poll() is None:
            now = time.monotonic()
            demand(now < until + PATIENCE, "the run does not come to its end")
            if now > until:
                self.undo_due(all_of_it=True)
            elif now > due:
                self.random.choice(deeds)()
                due = time.monotonic() + self.random.expovariate(1 / PAUSE)
            self.filled |= self.disk.full
            self.undo_due()
            time.sleep(0.02)
        with open(self.output, "rb") as log:
            log.seek(begin)
            said = log.read().decode(errors="replace")
        self.check_exit(process.returncode, said)
        return process.returncode

    def check_exit(self, code, said):
        """Whether a session may end with this code, and its children as it says."""
        self.count(f"exit {code}")
        at_work = " is already running (" in said
        good = (
            code in GOOD_CODES
            or (code < 0 and self.hurt)
            or (code == 1 and self.filled)
            or (code == 2 and at_work)
        )  # fmt: skip
        demand(good, f"a session ended with {code}:\n{said[-3000:]}")
        for who, word, number in re.findall(r"^the (\w+) died \((exit code|signal) (\d+)", said, re.M):
            self.count(f"restart of the {who}")
            number = int(number)
            good = number in (1, 2, 9, 15) if word == "signal" else (
                number in GOOD_CODES or (number == 1 and self.filled) or (number == 2 and at_work)
            )  # fmt: skip
            demand(good, f"the {who} died of {word} {number}:\n{said[-3000:]}")

def undisturbed(project):
    """A run of the same spec that is left alone, with a checkpoint of every step."""
    run = Disk(project.directory / "reference", "2g").path  # in memory, where so many are quickly saved
    sets = ["train.checkpoint_every=1", f"train.keep_checkpoints={STEPS}"]
    spec = project.runboard("check", "soak", *(word for field in sets for word in ("--set", field)))
    (run / "spec.yaml").write_text(spec)
    project.runboard("train", "--run", run)
    return run


def keep(project, disk, seed):
    """Copy what shows a violation to where it stays."""
    kept = project.directory / f"kept-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    disk.free()
    for path in [disk.path / "soak", disk.path / "soak-sweep", project.directory / "truth"]:
        if path.exists():
            shutil.copytree(path, kept / path.name, symlinks=True)
    for path in project.directory.glob("*.log"):
        shutil.copy(path, kept)
    return kept


def enter_namespace():
    """Begin again where this user may mount a disk, if there is such a place."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if "SOAK_NAMESPACE" in os.environ or not shutil.which("unshare"):
        return
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvpe("unshare", [*unshare, sys.executable, *sys.argv], os.environ | {"SOAK_NAMESPACE": "1"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runboard", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    enter_namespace()

    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and so to what is to be cleaned up
    directory = options.directory.resolve()
    project = Project(options.runboard.resolve(), directory)
    disk = Disk(directory / "runs", DISK)
    print(f"seed {options.seed}, {options.minutes:g} minutes, in {directory}")
    if not disk.own:
        print("this user may not mount a disk (unshare, tmpfs): it will never be full")
    reference = undisturbed(project)
    sweep_reference = soak_sweep.undisturbed(project)
    shutil.rmtree(disk.path / "soak-sweep")
    begin, figures, seed = time.monotonic(), collections.Counter(), options.seed
    while (left := options.minutes * 60 - (time.monotonic() - begin)) > 0:
        is_sweep = (seed - options.seed) % 3 == 0
        try:
            if is_sweep:
                sweep = soak_sweep.SweepSoak(project, seed, figures)
                sweep.go(min(sweep.random.uniform(30, 60), max(left, 10)))
                sweep.check(sweep_reference)
            else:
                soak = Soak(project, disk, seed, figures)
                soak.go(min(soak.random.uniform(*DISTURBED), max(left, 10)))
                Comparison(project, soak.run(), reference, soak.output, figures).check()
        except (Violation, OSError, ValueError, KeyError, subprocess.SubprocessError) as violation:
            kept = keep(project, disk, seed)
            print(f"VIOLATED with seed {seed}: {type(violation).__name__}: {violation}\nkept in {kept}")
            return 1
        finally:
            for process in (process for them in project.processes().values() for process in them):
                process.send(signal.SIGKILL)
        minutes = (time.monotonic() - begin) / 60
        print(f"seed {seed}: held; {minutes:.1f} minutes and {figures['sessions']} sessions so far")
        shutil.rmtree(disk.path / ("soak-sweep" if is_sweep else "soak"))
        seed += 1
    print(f"all held, in {(time.monotonic() - begin) / 60:.1f} minutes:")
    for what in sorted(figures):
        print(f"  {what:<32}{figures[what]:>9,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
