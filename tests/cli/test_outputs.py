"""Where results go: formats by extension, names, links, pipes and devices, standard output, what an earlier run
left, and that nothing is left behind."""

import io
import json
import os
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
from conftest import MODEL, PROGRAM, PROMPT, SMALL, expect_error, generate, run
from PIL import Image

QUICK = ["--steps", "1"]
COMMAND = [PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, *QUICK, "--threads", "1"]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def succeed(*arguments, **keywords):
    result = generate(*QUICK, *arguments, **keywords)
    assert result.returncode == 0, result.stderr
    return result


# Formats and names


@pytest.mark.parametrize("name, format", [
    ("p.png", "PNG"), ("p.PNG", "PNG"), ("p.jpg", "JPEG"), ("p.JPEG", "JPEG"), ("p.webp", "WEBP"), ("a.b.png", "PNG"),
    ("v1.5 heart.jpg", "JPEG"), ("Bär 🧸.webp", "WEBP"),
])  # fmt: skip
def test_the_extension_says_the_format(name, format, tmp_path):
    succeed("--output", tmp_path / name)
    assert Image.open(tmp_path / name).format == format
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["p", "p.gif", "p.", ".png", "p.png.txt", "v1.5 heart", "p.tiff", "p.avif"])
def test_other_extensions_are_refused(name, tmp_path):
    result = generate("--output", tmp_path / name)
    expect_error(result, 2, "output", name, ".png, .jpg, .jpeg or .webp")
    assert not names(tmp_path)


def test_pictures_of_all_formats_are_alike_and_hold_the_settings(tmp_path):
    prompt = "ein kleiner Bär, 熊 🧸"
    for name in ("p.png", "p.jpg", "p.webp"):
        result = run("generate", "--model", MODEL, "--prompt", prompt, *SMALL, "--seed", "3", "--output", tmp_path / name)
        assert result.returncode == 0, result.stderr
    png = Image.open(tmp_path / "p.png")
    for name in ("p.jpg", "p.webp"):
        picture = Image.open(tmp_path / name)
        assert np.abs(pixels(tmp_path / name) - pixels(tmp_path / "p.png")).mean() < 8
        exif = picture.getexif()
        comment = exif.get_ifd(0x8769)[0x9286]
        assert comment[:8] == b"UNICODE\0"
        assert json.loads(comment[8:].decode("utf-16-be")) == json.loads(png.text["tamias"])
        assert exif[0x0131] == png.text["Software"]
        assert exif[0x010E].encode("latin-1").decode() == prompt  # Pillow takes EXIF's text for Latin-1
    succeed("--output", tmp_path / "ascii.jpg")
    comment = Image.open(tmp_path / "ascii.jpg").getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"ASCII\0\0\0" and json.loads(comment[8:])["prompt"] == PROMPT


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_quality(extension, tmp_path):
    sizes = []
    for quality in (1, 60, 90, 100):
        path = tmp_path / f"{quality}.{extension}"
        succeed("--quality", quality, "--output", path)
        sizes.append(path.stat().st_size)
    assert sizes == sorted(set(sizes))
    succeed("--output", tmp_path / f"default.{extension}")
    assert (tmp_path / f"default.{extension}").read_bytes() == (tmp_path / f"90.{extension}").read_bytes()


@pytest.mark.parametrize("arguments, fragments", [
    (["--quality", "90", "--output", "p.png"], ["quality", ".jpg and .webp", "p.png"]),
    (["--quality", "90"], ["quality", "tamias.png"]),
    (["--quality", "0", "--output", "p.jpg"], ["quality", "1 to 100", "0"]),
    (["--quality", "101", "--output", "p.webp"], ["quality", "1 to 100", "101"]),
    (["--width", "16400", "--height", "16", "--output", "p.webp"], ["webp", "16400x16", "16383"]),
    (["--width", "32784", "--height", "16", "--output", "p.png"], ["png", "32784x16", "32768"]),
])  # fmt: skip
def test_what_the_format_cannot_hold_is_refused_before_the_work(arguments, fragments, tmp_path):
    expect_error(generate(*arguments, cwd=tmp_path), 2, *fragments)
    assert not names(tmp_path)


def test_a_prompt_too_long_for_the_format_is_refused_before_the_work(tmp_path):
    for name in ("p.jpg", "p.webp"):
        result = generate("--prompt", "a " * 40000, "--output", tmp_path / name)
        expect_error(result, 2, "too long for JPEG and WebP")
    assert not names(tmp_path)


def test_names_as_long_as_the_file_system_allows(tmp_path):
    longest = "a" * 251 + ".png"
    succeed("--output", tmp_path / longest)
    succeed("--output", tmp_path / longest)  # over the first
    assert names(tmp_path) == [longest]
    for arguments in (["--output", tmp_path / f"a{longest}"],
                      ["--num-images", 2, "--output", tmp_path / longest]):  # of which -1 is too much
        expect_error(generate(*arguments), 1, "File name too long")
    assert names(tmp_path) == [longest]


def test_numbers_go_before_the_extension(tmp_path):
    succeed("--num-images", 2, "--output", tmp_path / "a.b.jpg")
    assert names(tmp_path) == ["a.b-1.jpg", "a.b-2.jpg"]


@pytest.mark.parametrize("suffix", ["", "/", "//", "/."])
def test_the_model_is_named_however_its_folder_is_written(suffix, tmp_path):
    result = run("generate", "--model", f"{MODEL}{suffix}", "--prompt", PROMPT, *SMALL, *QUICK, "--output",
                 tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert json.loads(Image.open(tmp_path / "p.png").text["tamias"])["model"] == "demo-flux"


def test_the_model_is_named_from_within_its_folder(tmp_path):
    result = run("generate", "--model", ".", "--prompt", PROMPT, *SMALL, *QUICK, "--output", tmp_path / "p.png", cwd=MODEL)
    assert result.returncode == 0, result.stderr
    assert json.loads(Image.open(tmp_path / "p.png").text["tamias"])["model"] == "demo-flux"


# What is there already


def test_an_older_picture_is_replaced_and_keeps_its_mode(tmp_path):
    path = tmp_path / "p.png"
    path.write_text("old")
    path.chmod(0o600)
    succeed("--output", path)
    assert Image.open(path).size == (64, 64)
    assert path.stat().st_mode & 0o777 == 0o600


def test_pictures_of_an_earlier_run_do_not_pass_for_this_one(tmp_path):
    (tmp_path / "p-3.png").write_text("of three")
    expect_error(generate("--num-images", 2, "--output", tmp_path / "p.png"), 2, "output", "p-3.png", "remove it")
    assert names(tmp_path) == ["p-3.png"]
    succeed("--num-images", 3, "--output", tmp_path / "p.png")  # writes over it
    assert names(tmp_path) == ["p-1.png", "p-2.png", "p-3.png"]


@pytest.mark.parametrize("left, arguments", [
    ("dense.mp4", []), ("dense-1.png", []), ("side-by-side-1.mp4", ["--num-images", "2"]),
    ("accelerated.png", ["--num-images", "2"]), ("difference-3.png", ["--num-images", "2"]),
])  # fmt: skip
def test_compare_does_not_mix_runs(left, arguments, tmp_path):
    (tmp_path / left).write_text("old")
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, *SMALL, *arguments, "--output", tmp_path)
    expect_error(result, 2, "output", left, "remove it")
    assert names(tmp_path) == [left]


def test_compare_wants_a_folder(tmp_path):
    arguments = ["compare", "--model", MODEL, "--prompt", PROMPT, *SMALL, "--output"]
    expect_error(run(*arguments, tmp_path / "c.png"), 2, "output", "c.png", "expected a folder")
    (tmp_path / "file").write_text("")
    expect_error(run(*arguments, tmp_path / "file"), 1, "file")
    assert names(tmp_path) == ["file"]


def test_compare_refuses_pictures_too_small_for_its_measures(tmp_path):
    result = run("compare", "--model", MODEL, "--prompt", PROMPT, "--width", "8", "--height", "64", "--output",
                 tmp_path / "c")
    expect_error(result, 2, "width", "8x64", "11")
    assert not names(tmp_path)


# Links, folders, devices, pipes


def test_links_are_written_through(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to("folder/p.png")  # leads to nothing yet
    for _ in range(2):
        succeed("--output", tmp_path / "link.png")
        assert (tmp_path / "link.png").is_symlink()
        assert Image.open(tmp_path / "folder/p.png").format == "PNG"
        assert names(tmp_path / "folder") == ["p.png"]


@pytest.mark.parametrize("output, fragments", [
    ("folder.png", ["folder.png", "Is a directory"]), ("none/p.png", ["none/p.png", "No such file"]),
    ("lost.png", ["lost.png", "No such file"]), ("circle.png", ["circle.png", "symbolic links"]),
    ("/proc/p.png", ["/proc/p.png"]), ("/dev/none/p.png", ["No such file"]),
])  # fmt: skip
def test_places_that_cannot_be_written_are_refused_before_the_work(output, fragments, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "lost.png").symlink_to("none/p.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    before = names(tmp_path)
    result = generate("--output", output, cwd=tmp_path)
    expect_error(result, 1, *fragments)
    assert "denoise" not in result.stderr
    assert names(tmp_path) == before


@pytest.mark.parametrize("option", ["--report", "--save-latents"])
def test_every_file_is_checked_before_the_work(option, tmp_path):
    result = generate("--output", tmp_path / "p.png", option, tmp_path / "none/file")
    expect_error(result, 1, "none/file")
    assert "denoise" not in result.stderr and not names(tmp_path)


def test_a_pipe_gets_the_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen([*COMMAND, "--quiet", "--output", tmp_path / "pipe"])
    picture = Image.open(io.BytesIO((tmp_path / "pipe").read_bytes()))
    assert picture.format == "PNG" and picture.size == (64, 64)
    assert process.wait(60) == 0
    os.rename(tmp_path / "pipe", tmp_path / "pipe.jpg")
    process = subprocess.Popen([*COMMAND, "--quiet", "--output", tmp_path / "pipe.jpg"])
    assert Image.open(io.BytesIO((tmp_path / "pipe.jpg").read_bytes())).format == "JPEG"
    assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_ends_the_wait_for_a_reader(number, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    process = subprocess.Popen([*COMMAND, "--output", tmp_path / "pipe.png"], stderr=subprocess.PIPE, text=True)
    while "decode" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(10) != 0
    assert names(tmp_path) == ["pipe.png"]


def test_the_first_signal_ends_a_pipe_that_is_full(tmp_path):
    """A reader that does not read: the picture is larger than what the pipe holds."""
    os.mkfifo(tmp_path / "pipe.png")
    reader = os.open(tmp_path / "pipe.png", os.O_RDONLY | os.O_NONBLOCK)
    process = subprocess.Popen([*COMMAND, "--width", "512", "--height", "256", "--output", tmp_path / "pipe.png"],
                               stderr=subprocess.PIPE, text=True)
    while "decode" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.terminate()
    assert process.wait(10) != 0
    os.close(reader)


def test_a_signal_that_the_parent_ignores_stays_ignored(tmp_path):
    process = subprocess.Popen([*COMMAND, "--output", tmp_path / "p.png"], stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and names(tmp_path) == ["p.png"]


def test_devices(tmp_path):
    succeed("--output", "/dev/null")
    (tmp_path / "full.png").symlink_to("/dev/full")
    expect_error(generate(*QUICK, "--output", tmp_path / "full.png"), 1, "No space left")
    assert (tmp_path / "full.png").is_symlink()


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    result = generate(*QUICK, "--width", "128", "--output", tmp_path / "p.png", preexec_fn=limit)
    expect_error(result, 1, "p.png", "cannot write", "File too large")
    result = generate(*QUICK, "--output", "/dev/null", "--save-latents", tmp_path / "l.safetensors", preexec_fn=limit)
    expect_error(result, 1, "l.safetensors", "File too large")
    assert not names(tmp_path)


def test_nothing_is_left_behind_whenever_a_signal_comes(tmp_path):
    for delay in (0.0, 0.1, 0.3, 0.6, 1.0, 1.5):
        process = subprocess.Popen([*COMMAND, "--output", tmp_path / "p.png"], stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.terminate()
        process.wait(60)
        assert set(names(tmp_path)) <= {"p.png"}
        if names(tmp_path):
            assert Image.open(tmp_path / "p.png").size == (64, 64)  # whole


# Standard output


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_holds_the_picture_and_nothing_else(output, tmp_path):
    result = subprocess.run([*COMMAND, "--output", output], capture_output=True, timeout=60, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    picture = Image.open(io.BytesIO(result.stdout))
    assert picture.format == "PNG" and picture.size == (64, 64)
    assert result.stdout.endswith(b"IEND\xaeB`\x82")
    assert b"denoising" in result.stderr
    assert not names(tmp_path)


def test_standard_output_may_be_a_file_that_holds_something(tmp_path):
    with open(tmp_path / "out", "wb") as file:
        file.write(b"before")
        file.flush()
        assert subprocess.run([*COMMAND, "--quiet", "--output", "-"], stdout=file, timeout=60).returncode == 0
    data = (tmp_path / "out").read_bytes()
    assert data.startswith(b"before\x89PNG")
    assert names(tmp_path) == ["out"]


def test_the_report_may_go_to_standard_output(tmp_path):
    result = succeed("--report", "-", "--output", tmp_path / "p.png")
    assert len(json.loads(result.stdout)["steps"]) == 1


@pytest.mark.parametrize("arguments, fragments", [
    (["--output", "-", "--json"], ["standard output"]),
    (["--output", "-", "--report", "-"], ["standard output"]),
    (["--output", "/dev/stdout", "--save-latents", "-"], ["standard output"]),
    (["--output", "-", "--num-images", "2"], ["--num-images"]),
    (["--output", "/dev/null", "--num-images", "2"], ["--num-images"]),
])  # fmt: skip
def test_standard_output_takes_one_thing(arguments, fragments, tmp_path):
    expect_error(generate(*arguments, cwd=tmp_path), 2, *fragments)
    assert not names(tmp_path)


COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "command help": ["generate", "--help"],
    "inspect": ["inspect", "--model", MODEL],
    "inspect json": ["inspect", "--model", MODEL, "--json"],
    "generate": ["generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, *QUICK, "--output", "p.png"],
    "generate json": ["generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, *QUICK, "--output", "p.png", "--json"],
    "compare": ["compare", "--model", MODEL, "--prompt", PROMPT, *SMALL],
    "bench": ["bench", "mlp", "--tokens", "64", "--model-dim", "64", "--repeats", "1"],
    "picture": ["generate", "--model", MODEL, "--prompt", PROMPT, *SMALL, *QUICK, "--output", "-"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_lost_output_is_an_error(arguments, tmp_path):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
                                cwd=tmp_path)
    expect_error(result, 1, "No space left on device")


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_closed_output_is_an_error_and_no_file_takes_its_place(arguments, tmp_path):
    result = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", PROGRAM, *arguments], stderr=subprocess.PIPE, text=True,
                            timeout=60, cwd=tmp_path)
    expect_error(result, 1, "Bad file descriptor")
    if "p.png" in arguments:
        assert Image.open(tmp_path / "p.png").size == (64, 64)


def test_quiet_runs_need_no_output(tmp_path):
    for redirection in (">&-", "> /dev/full", ">&- 2>&- <&-"):
        subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, "--quiet", "--output", "p.png"],
                       check=True, timeout=60, cwd=tmp_path)
        (tmp_path / "p.png").unlink()


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    for arguments in (["inspect", "--model", MODEL], ["--help"]):
        for ignored in (False, True):
            reader, writer = os.pipe()
            os.close(reader)  # before the program begins: it must not win a race
            result = subprocess.run(
                [PROGRAM, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=60,
                preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN if ignored else signal.SIG_DFL))
            os.close(writer)
            assert result.stderr == b""
            assert result.returncode != 0


# Terminals


def on_a_terminal(command, columns=None, term="xterm", **keywords):
    """What a terminal of that width shows, as one text."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    if columns:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=os.environ | {"TERM": term}, **keywords)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait(60) == 0, shown
    return shown.decode().replace("\r\n", "\n")


def lines_shown(text):
    """The lines as they stand at the end: what is drawn over is gone."""
    return [line.rsplit("\x1b[K", 1)[-1] for line in text.split("\n")]


@pytest.mark.parametrize("arguments", [
    [], ["--num-images", "2"], ["--json"], ["--report", "/dev/stdout"],
])  # fmt: skip
def test_every_line_on_a_terminal_is_its_own(arguments, tmp_path):
    lines = lines_shown(on_a_terminal([*COMMAND, *arguments, "--output", "p.png"], cwd=tmp_path))
    done = [line for line in lines if line.startswith(("denoise", "decode", "result", "encode prompt"))]
    assert len(done) >= 3 and all(line.endswith("done") for line in done)
    others = [line for line in lines if line not in done]
    assert any(line.startswith(("wrote ", "{")) for line in others)
    assert not any("[=" in line for line in others)


def test_a_narrow_terminal_is_not_wrapped(tmp_path):
    for columns in (20, 40, 60, 80, 200):
        for line in on_a_terminal([*COMMAND, "--output", "p.png"], columns, cwd=tmp_path).split("\n"):
            for drawn in line.split("\r\x1b[K")[1:]:
                assert len(drawn) < columns


def test_a_dumb_terminal_gets_plain_lines(tmp_path):
    shown = on_a_terminal([*COMMAND, "--output", "p.png"], term="dumb", cwd=tmp_path)
    assert "\x1b" not in shown and "\r" not in shown and "denoise 1/1" in shown


def test_a_picture_is_not_written_to_a_terminal():
    import pty

    master, slave = pty.openpty()
    result = subprocess.run([*COMMAND, "--output", "-"], stdout=slave, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(slave)
    os.close(master)
    expect_error(result, 2, "standard output is a terminal")
