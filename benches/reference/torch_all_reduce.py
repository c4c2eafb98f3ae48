#!/usr/bin/env python3
"""The sum of a step's gradients over two processes by torch.distributed (Gloo), to be timed beside runboard's.

    torch_all_reduce.py --floats N
"""
import argparse, datetime, os, subprocess, sys, tempfile

import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--floats", type=int, required=True)
parser.add_argument("--store", help="for the second process: where it meets the first")
arguments = parser.parse_args()

torch.set_num_threads(1)
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
directory = tempfile.TemporaryDirectory()
store = arguments.store or os.path.join(directory.name, "store")
if not arguments.store:
    command = [sys.executable, __file__, "--floats", str(arguments.floats), "--store", store]
    subprocess.Popen(command, stdout=subprocess.DEVNULL)  # it ends with the group
rank = 1 if arguments.store else 0
limit = datetime.timedelta(hours=1)
dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2, timeout=limit)
values = torch.zeros(arguments.floats)
step = 0
while True:
    dist.all_reduce(values)
    if step % 10 == 0:
        print(f"step {step}, a sum", flush=True)
    step += 1
