"""What the comparisons with PyTorch share: our benchmark programs' results, and PyTorch timed likewise."""

import json
import os
import re
import statistics
import subprocess
import time

import torch


def our_results(build, program, name, shape, threads, seconds):
    """The entries of the benchmarks called `name`, by the part of their names that `shape` (a pattern) matches."""
    command = [
        os.path.join(build, "bench", program),
        f"--benchmark_filter={name}/",
        f"--benchmark_min_time={seconds}",
        "--benchmark_format=json",
    ]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    entries = json.loads(output.stdout)["benchmarks"]
    return {re.search(shape, entry["name"]).group(0): entry for entry in entries}


def torch_seconds(run, threads, seconds=1.0):
    """The median seconds of a call, of three calls at least."""
    torch.set_num_threads(threads)
    times = []
    with torch.inference_mode():
        run()
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop or len(times) < 3:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return statistics.median(times)
