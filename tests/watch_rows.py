#!/usr/bin/env python3
"""Wait until a live TensorBoard shows runs in its HParams tab as they stand, for a test that changes them.

    watch_rows.py LOGDIR

Serves LOGDIR with both of TensorBoard's readers, which look for changes every second. For each line on standard
input, `RUN STATE STATUS` such as `small/20261123-031000 2 STATUS_SUCCESS`, waits until both show the run as a single row
with that state, a number of docs/tags.md, and that status, which they may read a look later, then prints a line:

    {"fast": ROW, "python": ROW}      ROW is {"session": NAME, "metrics": {TAG: VALUE}, "steps": [STEP, ...]}

where the steps are those of the row's curve of accuracy. A wait in vain ends it with exit code 1.
"""

import json
import os
import sys
import time
import urllib.parse

from read_plugins import Unexpected, fetch, hparams, serve
from tags import known

# Only something that never comes takes so many seconds.
PATIENCE = 600


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} LOGDIR")
    os.environ["no_proxy"] = "127.0.0.1,localhost"
    readers = {"fast": True, "python": False}
    urls = {name: serve(sys.argv[1], fast, interval=1) for name, fast in readers.items()}
    for line in sys.stdin:
        run, state, status = line.split()
        rows = {name: wait(url, run, float(state), status) for name, url in urls.items()}
        print(json.dumps(rows), flush=True)


def wait(url, run, state, status):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        shown = None
        try:
            shown = hparams(lambda route, query: json.loads(fetch(f"{url}data/{route}", json.dumps(query).encode())))
            row = shown["groups"].get(run, {"metrics": {}, "status": {}})
            has_state = row["metrics"].get(known("eval", "Overview/state")) == state
            if has_state and list(row["status"].values()) == [status]:
                (session,) = row["status"]
                return {
                    "session": session,
                    "metrics": row["metrics"],
                    "steps": steps(url, session),
                }
        except Unexpected:
            pass  # TensorBoard is reading it just now
        time.sleep(0.2)
    sys.exit(f"error: waited in vain for {run} to have the state {state} and {status}: {json.dumps(shown)}")


def steps(url, session):
    accuracy = known("eval", "Precision @ 1")
    if accuracy not in json.loads(fetch(f"{url}data/plugin/scalars/tags")).get(session, {}):
        return []
    query = urllib.parse.urlencode({"run": session, "tag": accuracy})
    # Each is [wall time, step, value].
    return [event[1] for event in json.loads(fetch(f"{url}data/plugin/scalars/scalars?{query}"))]


if __name__ == "__main__":
    main()
