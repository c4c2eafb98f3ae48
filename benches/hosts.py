#!/usr/bin/env python3
"""Time training on two hosts with a network of a given rate between them: `make bench-hosts`.

    hosts.py [--data DIRECTORY] [--rate 1gbit] [--rounds 2] [--beside FIELD=VALUE] RUNBOARD [OTHER_RUNBOARD]

The hosts are two network namespaces; tc's token bucket filter limits what each sends. A host has one rank of one thread. Two
programs, and specs without and with the field, train in turns. Needs root, `ip` and `tc`. Nothing is left behind.
"""
import argparse
import csv
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

STEPS = 401
EVERY = 100
TAGS = {"a step": "train/global_step/sec", "of it computing": "train/time/compute_ms",
        "of it waiting for sums": "train/time/allreduce_ms"}


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def address(number):
    return f"10.78.0.{number + 1}"


def connect(names, rate):
    for name in names:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
    for number, name in enumerate(names):
        ip("-n", name, "address", "add", f"{address(number)}/24", "dev", "cable")
        ip("-n", name, "link", "set", "cable", "up")
        subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", "cable", "root", "tbf", "rate", rate,
                        "burst", "256kb", "latency", "50ms"], check=True)


def train(runboard, names, data, changed, directory):
    """Milliseconds of each tag, at each of its points but the first."""
    sets = {"compute.threads": 1, "train.steps": STEPS, "train.scalars_every": EVERY, "train.log_every": EVERY,
            "train.histograms_every": STEPS, "train.images_every": STEPS, "train.checkpoint_every": STEPS}
    changed = [*(f"{field}={value}" for field, value in sets.items()), *changed]
    sets = [word for field in changed for word in ("--set", field)]
    processes, logs = [], [directory / f"{number}.log" for number in range(len(names))]
    for number, name in enumerate(names):
        command = [runboard, "run", "baseline", "--runs", directory / str(number), *(["--data", data] if data else []), *sets,
                   "--nnodes", "2", "--node-rank", str(number), "--rdzv-endpoint", f"{address(0)}:29500"]
        with open(logs[number], "w") as log:
            processes.append(subprocess.Popen(["ip", "netns", "exec", name, *command], stdout=log, stderr=log))
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.1)
            for process, log in zip(processes, logs):
                if process.poll():
                    raise SystemExit(log.read_text())
    finally:
        for process in processes:
            process.kill()
            process.wait()
    times = {}
    for what, tag in TAGS.items():
        out = subprocess.run([runboard, "curve", "baseline", "--runs", directory / "0", "--tag", tag, "--csv"],
                             check=True, capture_output=True, text=True).stdout
        values = [float(row["value"]) for row in csv.DictReader(out.splitlines())][1:]
        times[what] = [1000 / value for value in values] if what == "a step" else values
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runboards", nargs="+", type=pathlib.Path)
    parser.add_argument("--data", type=os.path.abspath)
    parser.add_argument("--rate", default="1gbit")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--beside", action="append", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    names = [f"runboard-bench-{os.getpid()}-{number}" for number in range(2)]
    variants = [(runboard, changed) for runboard in arguments.runboards for changed in [(), *((field,) for field in arguments.beside)]]
    found = {variant: {what: [] for what in TAGS} for variant in variants}
    try:
        connect(names, arguments.rate)
        for _ in range(arguments.rounds):
            for (runboard, changed), times in found.items():
                with tempfile.TemporaryDirectory() as directory:
                    of_round = train(runboard.absolute(), names, arguments.data, changed, pathlib.Path(directory))
                for what, values in of_round.items():
                    times[what] += values
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
    print(f"two hosts of one thread, {arguments.rate} between them: medians, least and most, ms")
    for (runboard, changed), times in found.items():
        print(runboard, *changed)
        for what, values in times.items():
            print(f"  {what:<24}{statistics.median(values):6.1f} ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
