"""Documents name nothing that does not exist and leave out no option and no key.

The rules are in documents.py."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from documents import EXCEPTIONS, Repository, check, check_links
from markdown_parts import parse

ROOT = Path(__file__).parents[2]
PROGRAM = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias"))
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "models/*/README.md",
    "tools/*README.md",
]
# The made-up names of the tests below must not count as sources.
THIS = "tests/repository/"


def tracked(*patterns: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def read(name: str) -> str | None:
    try:
        return (ROOT / name).read_text()
    except UnicodeDecodeError:
        return None


def commands_of_program(*names: str) -> dict[str, set[str]]:
    """Every command with its options, as --help prints them."""
    result = subprocess.run(
        [PROGRAM, *names, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    commands = {}
    if names:
        commands[" ".join(names)] = set(re.findall(r"(?m)^ +(?:-\w,)?(--[\w-]+)", result.stdout))
    listing = re.search(
        r"(?m)^(?:SUB)?(?:COMMANDS|Subcommands):\n((?:  .*\n?)*)", result.stdout, re.IGNORECASE
    )
    for name in re.findall(r"(?m)^  (\w[\w-]*)", listing.group(1) if listing else ""):
        commands |= commands_of_program(*names, name)
    return commands


def keys_of_table() -> set[str]:
    """The keys of a profile, from the table that loading, writing and --set follow."""
    table = (ROOT / "src/sparsity/config.cc").read_text()
    return set(re.findall(r'(?:\w+Key|add|push_back)\(\s*\{?\s*"([\w.]+)"', table))


@pytest.fixture(scope="module")
def repository():
    commands = commands_of_program()
    assert {"generate", "bench attention"} <= commands.keys() and "--model" in commands["generate"]
    files = {name: None if name.startswith(THIS) else read(name) for name in tracked()}
    return Repository(files, commands, keys_of_table())


@pytest.fixture(scope="module")
def documents():
    return {name: parse(name, (ROOT / name).read_text()) for name in tracked(*DOCUMENTS)}


def test_what_documents_name_exists(repository, documents):
    faults = [fault for document in documents.values() for fault in check(document, repository)]
    assert not faults, "\n" + "\n".join(map(str, faults))
    idle = EXCEPTIONS.keys() - repository.used_exceptions
    assert not idle, f"exceptions that no document needs any more: {sorted(idle)}"


def test_links_lead_somewhere(repository, documents):
    faults = [
        fault
        for document in documents.values()
        for fault in check_links(document, documents, repository)
    ]
    assert not faults, "\n" + "\n".join(map(str, faults))


def test_every_document_is_linked(documents):
    linked = {
        os.path.normpath(os.path.join(os.path.dirname(document.name), link.target.split("#")[0]))
        for document in documents.values()
        for link in document.links
    }
    assert not {name for name in documents if name.startswith("docs/")} - linked


def test_the_guide_has_every_option(repository, documents):
    said = {
        option
        for span in documents["docs/guide.md"].spans
        for option in re.findall(r"--[a-z][\w-]*", span.text)
    }
    for command, options in repository.commands.items():
        missing = options - said - {"--help"}
        assert not missing, f"docs/guide.md: no word of {sorted(missing)} of tamias {command}"


def test_every_key_is_explained(repository, documents):
    said = [span.text for span in documents["docs/sparsity.md"].spans]
    groups = tuple(text.removesuffix("*") for text in said if text.endswith(".*"))
    missing = {key for key in repository.keys - set(said) if not key.startswith(groups)}
    assert repository.keys
    assert not missing, f"docs/sparsity.md: no word of {sorted(missing)}"


# What the checks find, on small strings.

SMALL = Repository(
    {
        "src/ops/norm.h": "// RmsNorm2 is only spoken of.\nvoid LayerNorm(Context& context);",
        "src/ops/norm.cc": "void LayerNorm(Context& context) { cuda::Run(); }",
        "tests/ops/norm_test.cc": "TEST(LayerNorm, Works) {}",
        "bench/norm_bench.cc": "BENCHMARK(x);",
        "examples/layer.cc": "#include <other/library.h>\nint main() {}",
        "bench/peer.py": 'import common\nparser.add_argument("--rounds")',
        "bench/common.py": '"""Takes --sad."""\nparser.add_argument("--seed")  # no --sead',
        "scripts/test": "#!/bin/sh\n# --slow was once here\ncase $1 in --quick) ;; esac",
        "configs/demo.yml": "attn:\n  top_keys: 0.1",
        "CMakePresets.json": '{"name": "release"}',
        "include/tamias/pipeline.h": "namespace tamias { class Pipeline; }",
        "models/demo/scheduler/scheduler_config.json": '{"shift": 3}',
        "docs/guide.md": "# Guide",
        "docs/images/plot.png": None,
    },
    {
        "generate": {"--model", "--set", "--sparsity", "--quiet"},
        "tune": {"--min-psnr"},
        "bench": set(),
        "bench mlp": {"--json"},
    },
    {"attn.top_keys", "attn.merge", "steps", "offloading.mlp.counts", "offloading.text_encoders"},
)


def faults_of(text: str, name: str = "docs/guide.md") -> list[str]:
    return [
        str(fault) for fault in check(parse(name, text), SMALL, {"chunk": "of another project"})
    ]


@pytest.mark.parametrize(
    "text",
    [
        # paths
        "`src/ops/norm.h` `src/ops/` `norm.cc` `src/ops/X.h` `configs/*.yml` `tests/*/` `images/plot.png`",
        "`scheduler/scheduler_config.json` `out/film.mp4` `build/release` `tests/ops/X_test.cc`",
        # commands and options
        "`tamias generate --model DIR --set attn.top_keys=0.1 --sparsity demo` `tamias tune` `tamias bench` `bench mlp --json`",
        "`bench/peer.py --rounds 3 --seed 1` `./scripts/test --quick` `./build/release/tamias --version`",
        "`build/release/bench/norm_bench --benchmark_filter=x` and `build/release/tests/ops_test --gtest_filter=LayerNorm*`",
        "`./build/release/examples/layer 0.1`",
        "`--min-psnr DB` `--set steps=4`",
        "## `tamias generate`\n`--quiet`",
        "```\nscripts/test --quick   # all but --slow\n./build/release/tamias generate \\\n    --quiet\n```",
        '```sh\nrun="python bench/peer.py"\n$run --rounds 2\n```',
        # keys
        "`attn.top_keys` `attn.merge: lse` `attn.*` `offloading.*` `steps`",
        "```yaml\nsteps: 50\nattn:\n  top_keys: 0.1  # a tenth\n```",
        # identifiers, formulas, words
        "`LayerNorm` `LayerNorm(context)` `cuda::Run()` `tamias::Pipeline` `shift` `chunk` `chunk.LayerNorm()` `3 %`",
        "`o_cache = o_full - A_S` `(o_rest, lse_rest)` `exp(s - lse_prev)` `x^2`",
        '```cpp\n#include <tamias/pipeline.h>\n// NotChecked\ntamias::Pipeline context("NoName");\n```',
        "```cpp\n#include <other/library.h>\n```",
    ],
)
def test_what_exists_is_no_fault(text):
    assert faults_of(text) == []


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("`src/ops/gone.h`", "src/ops/gone.h"),
        ("`src/gone/`", "src/gone/"),
        ("`gone.cc`", "gone.cc"),
        ("`src/ops/X.cuh`", "src/ops/X.cuh"),
        ("`bench/*.json`", "bench/*.json"),
        ("`tokenizer_9/`", "tokenizer_9/"),
        ("`tamias paint`", "tamias paint"),
        ("`tamias bench conv`", "tamias bench conv"),
        ("`tamias generate --loud`", "--loud"),
        ("`tamias tune --quiet`", "--quiet"),
        ("`tamias generate --set attn.topkeys=1`", "attn.topkeys"),
        ("`tamias generate --sparsity demon`", "demon"),
        ("`tamias generate --model models/gone`", "models/gone"),
        ("`bench/peer.py --sead 1`", "--sead"),
        ("`bench/peer.py --sad 1`", "--sad"),  # the docstring speaks of it, the code does not
        ("`python bench/gone.py`", "bench/gone.py"),
        ("`./scripts/test --slow`", "--slow"),
        ("`./scripts/gone`", "scripts/gone"),
        ("`build/relese/tamias generate`", "relese"),
        ("`build/release/bench/gone_bench`", "gone_bench"),
        ("`build/release/examples/gone 1`", "gone"),
        ("`build/release/tests/ops_test --gtest_filter=Gone*`", "Gone"),
        ("`--rounds`", "--rounds"),  # of a script that this page does not name
        ("## `tamias tune`\n`--quiet`", "--quiet"),
        ("`attn.topkeys`", "attn.topkeys"),
        ("`attn.topkeys: 3`", "attn.topkeys"),
        ("`attn.gone*`", "attn.gone*"),
        ("`CheckOnCpu`", "CheckOnCpu"),
        ("`RmsNorm2`", "RmsNorm2"),  # a comment alone does not make a name
        ("`cuda::Gone()`", "Gone"),
        ("`top_keyz`", "top_keyz"),
        ("`sheft`", "sheft"),
        ("`GoneNorm(x) = x + 1`", "GoneNorm"),
        ("`TAMIAS_GONE=1 scripts/test`", "TAMIAS_GONE"),
        ("`TAMIAS_GONE=anything`", "TAMIAS_GONE"),
        ("```\nscripts/test \\\n  --slow\n```", "--slow"),
        ('```sh\nrun="python bench/peer.py"\n$run --gone\n```', "--gone"),
        ("```yaml\nsteps: {}\nattn.topkeys: 1\n```", "attn.topkeys"),
        ("```cpp\ntamias::Gone();\n```", "Gone"),
        ("```cpp\n#include <tamias/gone.h>\n```", "tamias/gone.h"),
        ("```brainfuck\n+\n```", "brainfuck"),
    ],
)
def test_what_does_not_exist_is_reported_with_file_and_line(text, reported):
    faults = faults_of("# A page\n\n" + text)
    assert len(faults) == 1, faults
    assert reported in faults[0]
    first = 3 + text.startswith(("```", "##")) + ("$run" in text or "{}" in text)
    assert faults[0].startswith(f"docs/guide.md:{first}: ")


def test_code_over_two_lines_is_one_span():
    assert faults_of("see `tamias generate\n--loud` here")[0].startswith("docs/guide.md:1: ")
    assert parse("x.md", "``a ` b`` and `c|d`\n\n`not\n\ncode`").spans[0].text == "a ` b"


def test_links_and_anchors_are_followed():
    documents = {
        "docs/guide.md": parse(
            "docs/guide.md",
            "# Guide\n## `tamias tune`, told\n[a](#guide) [b](gone.md) ![c](images/plot.png)",
        ),
        "README.md": parse(
            "README.md",
            "[a](docs/guide.md#tamias-tune-told)\n\n[b](docs/guide.md#gone) [c](https://x.y/z#q)",
        ),
    }
    faults = [
        str(f) for document in documents.values() for f in check_links(document, documents, SMALL)
    ]
    assert len(faults) == 2
    assert faults[0].startswith("docs/guide.md:3: `gone.md`")
    assert faults[1].startswith("README.md:3: `docs/guide.md#gone`")
