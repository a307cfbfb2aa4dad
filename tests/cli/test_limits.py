"""Limits on the process: fewer CPUs and less memory than the machine has."""

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

import pytest
from conftest import MODEL, PROGRAM, PROMPT, expect_error, generate, run

MIB = 2**20


def under(limit, size):
    """For subprocess: the child may have that many bytes of what `limit` counts."""
    return {"preexec_fn": lambda: resource.setrlimit(limit, (size, size))}


def machine(**keywords):
    result = run("inspect", "--model", MODEL, "--json", **keywords)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_one_cpu_of_the_affinity_mask_is_one_thread():
    one = {next(iter(os.sched_getaffinity(0)))}
    keywords = {"preexec_fn": lambda: os.sched_setaffinity(0, one)}
    assert machine(**keywords)["usable_cpus"] == 1
    result = generate("--output", "/dev/null", "--threads", 3, **keywords)
    assert result.returncode == 0, result.stderr
    assert "3 threads share the 1 CPU that this process may use" in result.stderr


# Address space counts the libraries and the mapped weights, too.
@pytest.mark.parametrize("limit, name, size", [(resource.RLIMIT_AS, "RLIMIT_AS (ulimit -v)", 420),
                                               (resource.RLIMIT_DATA, "RLIMIT_DATA (ulimit -d)", 300)])
def test_a_plan_beyond_the_limit_is_refused_before_the_first_step(limit, name, size, tmp_path):
    result = generate("--width", 1024, "--height", 1024, "--threads", 1, "--output", tmp_path / "p.png",
                      **under(limit, size * MIB))
    expect_error(result, 2, "1024x1024 pixels need ", f"{name} is {size} MiB", "inspect")
    assert "denoise" not in result.stderr
    assert not list(tmp_path.iterdir())
    assert {"name": name, "bytes": size * MIB} in [
        {key: one[key] for key in ("name", "bytes")}
        for one in machine(**under(limit, size * MIB))["memory_limits"]]


def test_no_limit_on_address_space_ends_in_a_signal():
    """From limits under which not even the libraries load: oneDNN compiles kernels for the plan."""
    for size in range(240, 400, 16):
        result = run("inspect", "--model", MODEL, "--width", 512, "--height", 512,
                     **under(resource.RLIMIT_AS, size * MIB))
        assert result.returncode in (0, 1, 2, 127), (size, result.returncode)
        assert result.returncode == 0 or len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("options", [["--sparsity", "off"], ["--threads", "2"]])
def test_what_the_plan_asks_for_is_enough(options, tmp_path):
    """The smallest address space that is not refused holds the whole generation."""
    options = ["--width", 256, "--height", 256, "--output", tmp_path / "p.png", *options]
    refused = generate(*options, **under(resource.RLIMIT_AS, 400 * MIB))
    expect_error(refused, 2, "of address space", "RLIMIT_AS")
    need = int(re.search(r"need (\d+) MiB", refused.stderr)[1]) + 1
    result = generate(*options, **under(resource.RLIMIT_AS, need * MIB))
    assert result.returncode == 0, result.stderr
    expect_error(generate(*options, **under(resource.RLIMIT_AS, (need - 8) * MIB)), 2, "RLIMIT_AS")


def test_threads_that_cannot_be_had_are_an_error():
    """Stacks of 1 TiB: the address space ends before 200 threads."""
    result = generate("--threads", 200, "--output", "/dev/null", **under(resource.RLIMIT_STACK, 2**40))
    expect_error(result, 2, "threads: 200 cannot run at a time")


@pytest.mark.parametrize("left", [0, 8])
def test_memory_that_runs_out_in_decoding_is_an_error_and_the_latents_stay(left, tmp_path):
    """The limit comes when the latents lie beside the output, which is where decoding begins."""
    output = tmp_path / "p.png"
    kept = tmp_path / "p.png.latents.safetensors"
    process = subprocess.Popen(
        [PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, "--width", "640", "--height", "640", "--steps", "1",
         "--sparsity", "off", "--quiet", "--output", output],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    while not kept.exists():
        assert process.poll() is None
        time.sleep(0.001)
    mapped = int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) * 1024
    resource.prlimit(process.pid, resource.RLIMIT_AS, (mapped + left * MIB, resource.RLIM_INFINITY))
    errors = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 2
    assert len(errors) == 2 and "RLIMIT_AS (ulimit -v)" in errors[1] and "tamias decode" in errors[0]
    assert not output.exists()
    assert run("decode", "--model", MODEL, "--latents", kept, "--output", output).returncode == 0
