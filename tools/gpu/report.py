"""The report of tools/gpu_check as Markdown."""

OWN_FIELDS = {"real_time", "cpu_time", "time_unit", "iterations", "threads", "repetitions"}
OWN_FIELDS |= {"repetition_index", "family_index", "per_family_instance_index"}


def failures(report: dict) -> list[str]:
    judged = [test for test in report.get("tests", []) + report.get("pictures", []) if not test["passed"]]
    broken = [entry for entry in report.get("benchmarks", []) + report.get("steps", []) if "error_message" in entry]
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
    lines = ["", "| demo model, 512x512, 50 steps | denoising on the CPU, s | on the GPU, s | PSNR of the two |"]
    lines += ["| --- | --- | --- | --- |"]
    for picture in report["pictures"]:
        keys = ("seconds_denoise_cpu", "seconds_denoise_cuda", "psnr")
        numbers = [picture.get(key, float("nan")) for key in keys]
        lines.append(f"| {picture['name']} | {numbers[0]:.2f} | {numbers[1]:.2f} | {numbers[2]:.1f} |")
    return lines


def steps(report: dict) -> list[str]:
    lines = ["", "| FLUX.1-dev's geometry, 4,352 tokens, 50 steps | seconds |", "| --- | --- |"]
    for entry in report["steps"]:
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in entry.items() if isinstance(v, float))
        lines.append(f"| {entry['name']} | {numbers or entry.get('error_message', '')} |")
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


def markdown(report: dict) -> str:
    lines = head(report)
    if "tests" in report:
        passed = sum(test["passed"] for test in report["tests"])
        lines += ["", f"Tests: {passed} of {len(report['tests'])} passed."]
    lines += [f"- **failed** {line}" for line in failures(report)]
    for name, section in (("pictures", pictures), ("steps", steps), ("benchmarks", benchmarks)):
        if report.get(name):
            lines += section(report)
    return "\n".join(lines) + "\n"
