#!/usr/bin/env python3
"""Serve the curves of runs with TensorBoard: what `make tensorboard` calls.

usage: tools/tensorboard.py TENSORBOARD PORT [NAME]

  TENSORBOARD  the program
  PORT         where to serve; if that is in use, the next one that is free
  NAME         an experiment, or NAME/TIMESTAMP: its runs alone
"""
import os, socket, sys
from pathlib import Path

# TensorBoard keeps 10 pictures, 500 histograms and 100 curves of a tag by default, of runs that may have thousands.
SAMPLES = "images=100,histograms=500,pr_curves=100"
# Ports that are tried.
TRIES = 100


def is_free(port):
    with socket.socket() as server:
        # As TensorBoard's server does: a port whose last connections are being closed is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("localhost", port))
        except OSError:
            return False
    return True


def fail(text):
    sys.exit(f"tensorboard: {text}")


def free_port(wanted):
    for port in range(wanted, min(wanted + TRIES, 65536)):
        if is_free(port):
            if port != wanted:
                print(f"tensorboard: port {wanted} is in use, {port} is free", flush=True)
            return port
    fail(f"no free port from {wanted} on; choose another: PORT=...")


def logdir(name):
    home = os.path.expanduser(os.path.expandvars(os.environ.get("RUNBOARD_HOME") or "."))
    runs = Path(home, "runs")
    directory = runs / name
    if name and not directory.is_dir():
        names = sorted(path.name for path in runs.glob("[!.]*") if path.is_dir())
        fail(f"no runs of {name} in {runs}" + (f"; there are runs of {', '.join(names)}" if names else ""))
    return directory


match sys.argv[1:]:
    case [tensorboard, port, *name] if port.isdecimal() and len(name) < 2:
        arguments = [tensorboard, "--logdir", str(logdir(*name or [""])), "--port", str(free_port(int(port))),
                     "--samples_per_plugin", SAMPLES]
        os.execv(tensorboard, arguments)
    case _:
        sys.exit(__doc__)
