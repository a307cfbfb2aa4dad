"""The report of tools/gpu_check as Markdown."""

OWN_FIELDS = {"real_time", "cpu_time", "time_unit", "iterations", "threads", "repetitions"}
OWN_FIELDS |= {"repetition_index", "family_index", "per_family_instance_index"}


def failures(report: dict) -> list[str]:
    judged = [test for test in report.get("tests", []) + report.get("pictures", []) if not test["passed"]]
    measured = [
        entry for kind in ("benchmarks", "films", "decoders", "steps") for entry in report.get(kind, [])
    ]
    broken = [entry for entry in measured if "error_message" in entry]
    return [f"{test['name']}: {test['message'][:300]}" for test in judged] + [
        f"{entry['name']}: {entry['error_message']}" for entry in broken
    ]


def head(report: dict) -> list[str]:
    gpu = report["gpu"]
    return [
        "# GPU check",
        f"{report['date']}, commit {report['commit']}, {gpu['name']} (compute capability "
        f"{gpu['compute_capability']}), driver {gpu['driver']} for CUDA {gpu['driver_cuda']}, built by nvcc "
        f"{report['nvcc']}. Seconds of the parts: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in report["seconds"].items())
        + ".",
    ]


def pictures(report: dict) -> list[str]:
    lines = [
        "",
        "| demo model, 512x512, 50 steps | denoising on the CPU, s | on the GPU, s | PSNR of the two |",
    ]
    lines += ["| --- | --- | --- | --- |"]
    for picture in report["pictures"]:
        keys = ("seconds_denoise_cpu", "seconds_denoise_cuda", "psnr")
        numbers = [picture.get(key, float("nan")) for key in keys]
        lines.append(f"| {picture['name']} | {numbers[0]:.2f} | {numbers[1]:.2f} | {numbers[2]:.1f} |")
    return lines


def gibibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**30:.1f}"


def times_of(schedule: dict[str, int]) -> str:
    """4 full, 21 sparse, 25 skipped"""
    return ", ".join(f"{count} {'skipped' if kind == 'skip' else kind}" for kind, count in schedule.items())


def film(entry: dict) -> list[str]:
    """Two tables: seconds of steps and of projected films, and memory."""
    tokens = f", {entry['tokens']:,} + {entry['text_tokens']} tokens" if "tokens" in entry else ""
    lines = ["", f"| {entry['name']}{tokens} | seconds | beside dense |", "| --- | ---: | ---: |"]
    first = " (chooses algorithms, too)"
    names = {
        "dense_step": "dense step" + (first if entry.get("dense_step_is_first") else ""),
        "first_step": "first step with the profile" + first,
        "full_step": "full step, columns chosen",
        "sparse_step": "sparse step",
        "skip_step": "skipped step",
    }
    for key, name in names.items():
        if key in entry:
            has_ratio = "dense_step" in entry and key != "skip_step"
            beside = f"{entry['dense_step'] / entry[key]:.2f}x" if has_ratio else ""
            lines.append(f"| {name} | {entry[key]:.3f} | {beside} |")
    steps = f"projected: {entry['steps']} steps"
    if "projected_dense" in entry:
        lines.append(f"| {steps}, dense | {entry['projected_dense']:.0f} | 1x |")
    for key, what in (("sparse", "without step caching"), ("cached", "with step caching")):
        if f"projected_{key}" in entry:
            beside = f"**{entry[f'speedup_{key}']:.2f}x**" if f"speedup_{key}" in entry else ""
            name = f"{steps}, `{entry['profile']}` {what} ({times_of(entry[f'schedule_{key}'])})"
            lines.append(f"| {name} | {entry[f'projected_{key}']:.0f} | {beside} |")
    lines += ["", "| GPU memory, GiB | planned | most in use | measures |", "| --- | ---: | ---: | --- |"]
    for kind in ("dense", "accelerated"):
        planned, used = (gibibytes(entry.get(f"{what}_memory_{kind}")) for what in ("planned", "peak"))
        measures = "; ".join(entry.get(f"measures_{kind}", []))
        lines.append(f"| {kind} | {planned} | {used} | {measures} |")
    return lines


def films(report: dict) -> list[str]:
    return [line for entry in report["films"] if "first_step" in entry for line in film(entry)]


def decoders(report: dict) -> list[str]:
    lines = ["", "| random latents | seconds | GPU memory, GiB |", "| --- | ---: | ---: |"]
    for entry in report["decoders"]:
        seconds = f"{entry['seconds']:.3f}" if "seconds" in entry else ""
        lines.append(f"| {entry['name']} | {seconds} | {gibibytes(entry.get('peak_memory'))} |")
    return lines


def steps(report: dict) -> list[str]:
    lines = [
        "",
        "| FLUX.1-dev's geometry, 4,352 tokens | seconds | GPU memory planned, GiB |",
        "| --- | --- | ---: |",
    ]
    for entry in report["steps"]:
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in entry.items() if isinstance(v, float))
        planned = gibibytes(entry.get("planned_memory"))
        lines.append(f"| {entry['name']} | {numbers or entry.get('error_message', '')} | {planned} |")
    return lines


def benchmarks(report: dict) -> list[str]:
    lines = ["", "| benchmark | ms | |", "| --- | --- | --- |"]
    for bench in report["benchmarks"]:
        if "error_message" in bench:
            lines.append(f"| {bench['name']} | | {bench['error_message']} |")
            continue
        numbers = ", ".join(
            f"{key} {value:.3g}"
            for key, value in bench.items()
            if isinstance(value, (int, float)) and key not in OWN_FIELDS
        )
        lines.append(f"| {bench['name']} | {bench['real_time']:.3f} | {numbers} |")
    return lines


SECTIONS = {
    "pictures": pictures,
    "films": films,
    "decoders": decoders,
    "steps": steps,
    "benchmarks": benchmarks,
}


def markdown(report: dict) -> str:
    lines = head(report)
    if "tests" in report:
        passed = sum(test["passed"] for test in report["tests"])
        lines += ["", f"Tests: {passed} of {len(report['tests'])} passed."]
    lines += [f"- **failed** {line}" for line in failures(report)]
    lines += [f"- {note}" for note in report.get("notes", [])]
    for name, section in SECTIONS.items():
        if report.get(name):
            lines += section(report)
    return "\n".join(lines) + "\n"
