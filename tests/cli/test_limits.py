"""Limits on the process: fewer CPUs and less memory than the machine has."""

import json
import os
import resource

import pytest
from conftest import MODEL, expect_error, generate, run

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
