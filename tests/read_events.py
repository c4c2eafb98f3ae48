#!/usr/bin/env python3
"""Print what TensorBoard's own Python reader finds in a directory of event files, as one JSON object.

    read_events.py DIR
    {"scalars": {TAG: [[STEP, VALUE], ...]}, "histograms": {TAG: COUNT},
     "images": {TAG: [[STEP, WIDTH, HEIGHT], ...]}, "graph": [NODE, ...],
     "text", "pr_curves", "custom_scalars", "hparams": [TAG, ...]}

Points are in the order they were read, none sampled away; NaN and infinities are null.
"""

import json
import math
import sys

from tensorboard.backend.event_processing import event_accumulator


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIR")
    # A size of 0 keeps every event.
    sizes = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)
    events = event_accumulator.EventAccumulator(sys.argv[1], size_guidance=sizes).Reload()
    tags = events.Tags()

    def point(event):
        return [event.step, event.value if math.isfinite(event.value) else None]

    def of_plugin(plugin):
        def plugin_of(tag):
            return events.SummaryMetadata(tag).plugin_data.plugin_name

        return sorted(tag for tag in tags["tensors"] if plugin_of(tag) == plugin)

    found = {
        "scalars": {tag: [point(e) for e in events.Scalars(tag)] for tag in tags["scalars"]},
        "histograms": {tag: len(events.Histograms(tag)) for tag in tags["histograms"]},
        "images": {
            tag: [[e.step, e.width, e.height] for e in events.Images(tag)] for tag in tags["images"]
        },
        "graph": [node.name for node in events.Graph().node] if tags["graph"] else [],
        **{name: of_plugin(name) for name in ["text", "pr_curves", "custom_scalars", "hparams"]},
    }
    print(json.dumps(found, sort_keys=True, allow_nan=False))


if __name__ == "__main__":
    main()
