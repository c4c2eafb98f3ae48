#!/usr/bin/env python3
"""Print what TensorBoard shows of a log directory in each of its plugins, as one JSON object.

    read_plugins.py LOGDIR
    {"fast": SHOWN, "python": SHOWN}      read with --load_fast=true and false, asked over HTTP

SHOWN is
    {"active": [PLUGIN, ...],
     "scalars", "images", "histograms", "distributions", "text", "pr_curves": {RUN: {TAG: [STEP, ...]}},
     "descriptions": {RUN: {TAG: [DISPLAY NAME, DESCRIPTION AS HTML]}},   where there is a description
     "graphs": {RUN: {NODE: SHAPE}},
     "custom_scalars": {CATEGORY: {CHART: {RUN: [TAG, ...]}}},
     "hparams": {"hparams": {NAME: {"type": TYPE, "differs": BOOL}}, "metrics": [[GROUP, TAG], ...],
                 "groups": {NAME: {"hparams": {NAME: VALUE}, "metrics": {TAG: VALUE},
                                   "status": {SESSION: STATUS}}}}}

An answer that is an error, and an image that is no PNG, ends it with exit code 1.
"""

import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from tensorboard import program

# The fast reader shows runs before it has read them. It is done when it shows what the other one does, or
# nothing new for this many seconds, which are only spent where the two differ.
PATIENCE = 120
# An answer that does not come in so many seconds is asked for again, so often: on a busy machine one may get lost.
LIMIT = 30
TRIES = 20

SERIES = ["scalars", "images", "histograms", "distributions", "text", "pr_curves"]


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} LOGDIR")
    # Neither the servers nor the fast reader's own process are asked through a proxy.
    os.environ["no_proxy"] = "127.0.0.1,localhost"
    try:
        python = show(serve(sys.argv[1], fast=False))
        fast = settled(serve(sys.argv[1], fast=True), python)
    except Unexpected as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"fast": fast, "python": python}, sort_keys=True))


class Unexpected(Exception):
    """TensorBoard answered something else than it should."""


def serve(logdir, fast, interval=0):
    """Start TensorBoard on a free port, in threads of this process. Returns its address.

    It looks for changes every `interval` seconds; with 0 it reads once, and has done so on return but for what
    the fast reader's process is still reading.

    It ends with this process: the servers' threads are daemons, and the fast reader's own process ends when
    the pipe from this one closes, even if this one is killed.
    """
    server = program.TensorBoard()
    arguments = ["--logdir", logdir, "--port", "0", "--host", "127.0.0.1"]
    arguments += ["--reload_interval", str(interval)]
    # All points, not a sample.
    samples = ",".join(f"{plugin}={10**6}" for plugin in SERIES)
    arguments += ["--samples_per_plugin", samples]
    server.configure([sys.argv[0], *arguments, "--load_fast", "true" if fast else "false"])
    url = server.launch()
    # The Python reader's thread ends when it has read everything, if it reads once.
    for thread in threading.enumerate():
        if thread.name == "Reloader" and not interval:
            thread.join(TRIES * LIMIT)
    return url


def settled(url, wanted):
    """Ask every plugin at `url` until the answer is `wanted` or changes no more."""
    shown, since = None, time.monotonic()
    while (now := show(url)) != wanted:
        if now != shown:
            shown, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            break
        time.sleep(0.1)
    return now


def show(url):
    """Ask every plugin at `url`."""

    def get(route, **query):
        return fetch(f"{url}data/{route}?{urllib.parse.urlencode(query)}").decode()

    def ask(route, **query):
        return json.loads(get(route, **query))

    def post(route, request):
        return json.loads(fetch(f"{url}data/{route}", json.dumps(request).encode()))

    tags = {plugin: ask(f"plugin/{plugin}/tags") for plugin in SERIES}

    def series(plugin, points):
        found = tags[plugin]
        return {run: {tag: points(run, tag) for tag in found[run]} for run in found}

    def descriptions():
        found = {}
        for runs in tags.values():
            for run, infos in runs.items():
                # The Text tab's list is of names alone.
                for tag, info in infos.items() if isinstance(infos, dict) else ():
                    if info["description"]:
                        # Some tags have no name of their own in one reader; pages show the tag then.
                        name = info["displayName"] or tag
                        found.setdefault(run, {})[tag] = [name, info["description"]]
        return found

    def images(run, tag):
        steps = []
        for image in ask("plugin/images/images", run=run, tag=tag, sample=0):
            address = f"{url}data/plugin/images/individualImage?{image['query']}"
            if not fetch(address).startswith(b"\x89PNG"):
                raise Unexpected(f"{address}: no PNG")
            steps.append(image["step"])
        return steps

    def events(plugin):
        # Each is [wall time, step, value].
        return lambda run, tag: [e[1] for e in ask(f"plugin/{plugin}/{plugin}", run=run, tag=tag)]

    def steps(route):
        return lambda run, tag: [event["step"] for event in ask(route, run=run, tag=tag)]

    def pr_curves(run, tag):
        return [curve["step"] for curve in ask("plugin/pr_curves/pr_curves", run=run, tag=tag)[run]]

    def graphs():
        runs = [run for run, info in ask("plugin/graphs/info").items() if info["run_graph"]]
        return {run: nodes(get("plugin/graphs/graph", run=run)) for run in runs}

    def custom_scalars(runs):
        def matching(run, tags):
            found = [ask("plugin/custom_scalars/scalars", run=run, tag=tag) for tag in tags]
            if not all(answer["regex_valid"] for answer in found):
                raise Unexpected(f"bad regular expression among {tags}")
            return sorted({tag for answer in found for tag in answer["tag_to_events"]})

        def curves(chart):
            matches = {run: matching(run, chart["multiline"]["tag"]) for run in runs}
            return {run: tags for run, tags in matches.items() if tags}

        categories = ask("plugin/custom_scalars/layout").get("category", [])
        return {
            category["title"]: {chart["title"]: curves(chart) for chart in category["chart"]}
            for category in categories
        }

    return {
        "active": sorted(name for name, plugin in ask("plugins_listing").items() if plugin["enabled"]),
        "scalars": series("scalars", events("scalars")),
        "images": series("images", images),
        "histograms": series("histograms", events("histograms")),
        "distributions": series("distributions", events("distributions")),
        "text": series("text", steps("plugin/text/text")),
        "pr_curves": series("pr_curves", pr_curves),
        "descriptions": descriptions(),
        "graphs": graphs(),
        "custom_scalars": custom_scalars(ask("runs")),
        "hparams": hparams(post),
    }


def fetch(address, body=None):
    headers = {} if body is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(address, body, headers)
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return answer.read()
        except (urllib.error.URLError, TimeoutError) as error:
            late = isinstance(getattr(error, "reason", error), TimeoutError)
            if not (late and left):
                raise Unexpected(f"{address}: {error}") from error


def nodes(graph):
    """Names and shapes of the nodes of a GraphDef in text format."""
    found = {}
    for node in re.split(r"^node \{$", graph, flags=re.MULTILINE)[1:]:
        name = re.search(r'^  name: "(.*)"$', node, flags=re.MULTILINE)[1]
        shape = re.search(r'key: "_output_shapes".*?^  \}', node, flags=re.MULTILINE | re.DOTALL)
        found[name] = [int(size) for size in re.findall(r"size: (-?\d+)", shape[0] if shape else "")]
    return found


def hparams(post):
    experiment = post("plugin/hparams/experiment", {"experimentName": ""})
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    infos = experiment.get("hparamInfos", [])
    request = {
        "experimentName": "",
        "allowedStatuses": statuses,
        "colParams": [{"hparam": info["name"], "includeInResult": True} for info in infos],
        "startIndex": 0,
        "sliceSize": 1000,
    }
    groups = post("plugin/hparams/session_groups", request).get("sessionGroups", [])

    def metric(value):
        name = value["name"]
        return "/".join(part for part in (name.get("group"), name["tag"]) if part)

    return {
        "hparams": {
            info["name"]: {"type": info["type"], "differs": info.get("differs", False)}
            for info in infos
        },
        "metrics": [
            [info["name"].get("group", ""), info["name"]["tag"]]
            for info in experiment.get("metricInfos", [])
        ],
        "groups": {
            group["name"]: {
                "hparams": group.get("hparams", {}),
                "metrics": {metric(v): v["value"] for v in group.get("metricValues", [])},
                "status": {
                    session["name"]: session.get("status", "STATUS_UNKNOWN")
                    for session in group["sessions"]
                },
            }
            for group in groups
        },
    }


if __name__ == "__main__":
    main()
