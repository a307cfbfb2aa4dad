"""What documents say about the repository, and whether it is so.

Inline code and fenced blocks are read as paths, commands, options, configuration keys or
identifiers, by their form. Each has to exist: a path in git, a command and its options in the
program's --help or the script's source, a key in the table of keys, an identifier in code (comments
do not count). What belongs to other projects and stands nowhere in our sources is listed in
EXCEPTIONS, with the reason.
"""

import fnmatch
import posixpath
import re
import shlex
from dataclasses import dataclass, field

from markdown_parts import Document, Span

# Spans, or words in them, that name nothing here. One that is no longer needed fails the test.
EXCEPTIONS = {
    "ATEN_CPU_CAPABILITY": "PyTorch reads it",
    "MKL_ENABLE_INSTRUCTIONS": "MKL reads it",
    "ONEDNN_MAX_CPU_ISA": "oneDNN reads it",
    "GLIBC_TUNABLES": "the C library reads it",
    "VideoProcessor": "a class within pipelines of diffusers that the fixtures use",
    "sm_80": "what nvcc calls compute capability 8.0; our build files say 80",
    "my_program": "stands for the reader's program",
}

# Programs of others that documents may tell the reader to run. Their options are not looked up.
OTHER_PROGRAMS = {
    "apt-get",
    "cat",
    "cd",
    "chrt",
    "tar",
    "clang-format",
    "cmake",
    "ctest",
    "curl",
    "git",
    "nvcc",
    "pip",
    "ptxas",
    "sudo",
}
PLACEHOLDER = re.compile(r"^[A-Z]+(\.\w+)*$|^\.\.\.$|^<.*>$")
NAMED_OUTSIDE = (
    "out/",
    "build/",
    "/",
    "$",
    "~",
    "../",
)  # what a reader's machine has, not the repository
SUFFIXES = {
    ".c",
    ".cc",
    ".cmake",
    ".cu",
    ".cuh",
    ".h",
    ".jpg",
    ".json",
    ".md",
    ".mp4",
    ".png",
    ".py",
    ".safetensors",
}
SUFFIXES |= {".sh", ".so", ".txt", ".webp", ".yaml", ".yml"}
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
KEY = re.compile(r"^([a-z_]+(?:\.[A-Za-z0-9_*]+)+)(?:\s*[:=].*)?$")
SYMBOL = re.compile(r"^([a-z]+(_[A-Za-z]+)?|[A-Z](_[A-Za-z]+)?)$")
OPERATOR = re.compile(r" [=+*/-] |\^")
COMMENT = {
    "c": re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL),
    "sh": re.compile(r'(?m)(^|\s)#[^\n]*|^ *r?"""(?:.|\n)*?"""'),  # and docstrings
}
C_SUFFIXES = {".c", ".cc", ".h", ".cu", ".cuh"}
CODE_SUFFIXES = C_SUFFIXES | {".py", ".sh", ".cmake", ".txt", ".json", ".yml", ".in", ""}
VOCABULARIES = re.compile(r"(^|/)(tokenizer|vocab|added_tokens)[^/]*\.json$|_expected\.json$")


@dataclass(frozen=True)
class Fault:
    file: str
    line: int
    text: str
    why: str

    def __str__(self):
        return f"{self.file}:{self.line}: `{self.text}`: {self.why}"


def suffix_of(path: str) -> str:
    return posixpath.splitext(path)[1]


def without_comments(path: str, text: str) -> str:
    return COMMENT["c" if suffix_of(path) in C_SUFFIXES else "sh"].sub(" ", text)


@dataclass
class Repository:
    """What there is to name.

    `files` maps each tracked path to its text (None: not text); `commands` each command of the
    program ("generate", "bench attention") to its options; `keys` are those of a sparsity profile.
    """

    files: dict[str, str | None]
    commands: dict[str, set[str]]
    keys: set[str]
    used_exceptions: set[str] = field(default_factory=set)

    def __post_init__(self):
        self.folders = {parent for path in self.files for parent in parents(path)}
        sources = {
            path: text
            for path, text in self.files.items()
            if text is not None
            and suffix_of(path) in CODE_SUFFIXES
            and not VOCABULARIES.search(path)
        }
        self.code = {
            word
            for path, text in sources.items()
            for word in WORD.findall(without_comments(path, text))
        }
        self.text = "\n".join(sources.values())
        self.words = self.code | set(WORD.findall(self.text))
        self.profiles = {
            posixpath.basename(p)[:-4] for p in self.files if fnmatch.fnmatch(p, "configs/*.yml")
        }

    def has_path(self, path: str) -> bool:
        path = path.rstrip("/")
        return path in self.files or path in self.folders

    def matches(self, pattern: str) -> bool:
        return any(fnmatch.fnmatch(path, pattern) for path in (*self.files, *self.folders))

    def has_tail(self, path: str) -> bool:
        """Whether some tracked path ends so: `scenes.py`, `scheduler/scheduler_config.json`."""
        path = "/" + path.rstrip("/")
        return any(("/" + other).endswith(path) for other in (*self.files, *self.folders))

    def says(self, text: str) -> bool:
        """Whether the sources hold this text, not as a part of a longer word."""
        return re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", self.text) is not None

    def script_options(self, path: str, seen: frozenset[str] = frozenset()) -> set[str]:
        """Options in a script's source, those of the modules beside it that it imports included."""
        text = without_comments(path, self.files[path] or "")
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
        for module in re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE):
            other = posixpath.join(posixpath.dirname(path), module + ".py")
            if other in self.files and other not in seen:
                options |= self.script_options(other, seen | {path})
        return options

    def is_script(self, path: str) -> bool:
        text = self.files.get(path)
        return text is not None and (suffix_of(path) == ".py" or text.startswith("#!"))


def parents(path: str):
    while path := posixpath.dirname(path):
        yield path


def join_lines(shell: str) -> list[tuple[int, str]]:
    """(offset of the first line, command) of each command of a shell block."""
    commands: list[tuple[int, str]] = []
    goes_on = False
    for offset, line in enumerate(shell.split("\n")):
        if goes_on:
            commands[-1] = (commands[-1][0], commands[-1][1][:-1] + " " + line.strip())
        elif line.strip() and not line.strip().startswith("#"):
            commands.append((offset, line.strip()))
        goes_on = line.rstrip().endswith("\\")
    return commands


class Checker:
    """Collects the faults of one document."""

    def __init__(self, document: Document, repository: Repository, exceptions: dict[str, str]):
        self.document = document
        self.repository = repository
        self.exceptions = exceptions
        self.faults: list[Fault] = []
        self.where = (0, "")

    def fault(self, why: str):
        self.faults.append(Fault(self.document.name, *self.where, why))

    def is_exception(self, text: str) -> bool:
        if text in self.exceptions:
            self.repository.used_exceptions.add(text)
        return text in self.exceptions

    def run(self) -> list[Fault]:
        for span in self.document.spans:
            self.where = (span.line, span.text)
            self.span(span)
        for block in self.document.blocks:
            self.block(block)
        return self.faults

    # Inline code.

    def span(self, span: Span):
        text = span.text
        if self.is_exception(text):
            return
        if text.startswith("^"):
            re.compile(text)  # names of candidates are chosen by expressions
        elif text.startswith("--"):
            self.options(span)
        elif re.fullmatch(
            r"([A-Z_]+=\S+ ?)+", text
        ):  # environment variables, with values of any kind
            self.words(" ".join(word.split("=")[0] for word in text.split()))
        elif self.is_command(text):
            self.command(text)
        elif (key := KEY.match(text)) and key.group(1).split(".")[0] in {
            k.split(".")[0] for k in self.repository.keys
        }:
            self.key(key.group(1))
        elif self.is_path(text):
            self.path(text)
        else:
            self.words(text)

    def is_command(self, text: str) -> bool:
        words = text.split()
        while len(words) > 1 and re.match(r"^[A-Z_]+=", words[0]):
            words = words[1:]
        first = words[0] if words else ""
        if re.match(r"\./|build/[\w-]+/\w", first) or self.repository.is_script(first):
            return True
        names = {name.split()[0] for name in self.repository.commands} | {
            "tamias",
            "python",
            "python3",
        }
        return len(words) > 1 and first in names | OTHER_PROGRAMS

    def is_path(self, text: str) -> bool:
        if re.search(r"[\s()<>=|&;\"]", text) or "::" in text or text.startswith("."):
            return False
        return "/" in text or suffix_of(text) in SUFFIXES

    def path(self, text: str):
        """From the root or the document's folder; a name alone or a model folder's part anywhere."""
        repository = self.repository
        if text.startswith(NAMED_OUTSIDE):
            return
        pattern = re.sub(r"(?<![A-Za-z])X(?![A-Za-z])|(?<=/)X(?=_)", "*", text)
        beside = posixpath.join(posixpath.dirname(self.document.name), pattern)
        if any(
            repository.has_path(p) or ("*" in p and repository.matches(p.rstrip("/")))
            for p in (pattern, beside)
        ):
            return
        top = text.split("/")[0]
        if "/" in text.rstrip("/") and (top in repository.folders or text.startswith("./")):
            return self.fault("no such path in the repository")
        stem = re.sub(r"-\d+$", "", posixpath.splitext(text)[0])
        if not (repository.has_tail(text) or repository.says(text) or repository.says(f'"{stem}"')):
            self.fault("no such path in the repository, and no source names it")

    def key(self, name: str):
        if not any(fnmatch.fnmatch(key, name) for key in self.repository.keys):
            self.fault(f"no such configuration key: {name}")

    def words(self, text: str):
        """Identifiers have to be in code, other words anywhere in the sources; symbols are free."""
        repository = self.repository
        if text in repository.keys:
            return
        bare = STRING.sub('""', text)
        if re.match(r"^[a-z0-9][\w.]*(-[\w.]+)+$", bare):  # a name with hyphens
            if not (
                repository.has_tail(bare) or bare in repository.profiles or repository.says(bare)
            ):
                self.fault("no source has this name")
            return
        qualified = "::" in bare or "(" in bare or bool(re.search(r"[a-z]\.[a-z]", bare))
        is_formula = (
            "::" not in bare
            and '"' not in bare
            and (
                OPERATOR.search(bare) is not None
                or re.match(r"^\(\w+(, \w+)+\)$", bare) is not None
            )
        )
        found = [word for word in WORD.findall(bare) if len(word) > 1]
        for word in found:
            if self.is_exception(word) or (is_formula and SYMBOL.match(word)):
                continue
            is_identifier = qualified or "_" in word.strip("_") or re.search(r"[a-z][A-Z]", word)
            if word not in (repository.code if is_identifier else repository.words):
                self.fault(
                    f"no code has the name {word}"
                    if is_identifier
                    else f"no source has the word {word}"
                )

    # Commands and options.

    def options(self, span: Span):
        """Options alone: of the commands that the section is about, else of all the page names."""
        words = self.split(span.text)
        titled = self.commands_in(re.findall(r"`([^`]*)`", span.section))
        if titled:
            known = self.options_of(
                titled
                | self.commands_in(s.text for s in self.document.spans if s.section == span.section)
            )
        else:
            known = set().union(*self.repository.commands.values())
            for name in self.scripts_on_page():
                known |= self.repository.script_options(name)
        self.arguments(words, known, "no command that this page names has the option")

    def commands_in(self, texts) -> set[str]:
        """The program's commands among `tamias generate`, `generate --quiet`, `bench attention`."""
        found = set()
        for text in texts:
            words = [word for word in text.split() if word != "tamias"]
            for count in (1, 2):
                if " ".join(words[:count]) in self.repository.commands:
                    found.add(" ".join(words[:count]))
        return found

    def options_of(self, commands: set[str]) -> set[str]:
        return {
            option
            for name, options in self.repository.commands.items()
            if any(name == command or name.startswith(command + " ") for command in commands)
            for option in options
        }

    def scripts_on_page(self) -> set[str]:
        texts = [span.text for span in self.document.spans] + [
            block.text for block in self.document.blocks
        ]
        names = {word for text in texts for word in re.findall(r"[\w./-]+", text)}
        folder = posixpath.dirname(self.document.name)
        candidates = {posixpath.normpath(name) for name in names} | {
            posixpath.join(folder, name) for name in names
        }
        return {name for name in candidates if self.repository.is_script(name)}

    def split(self, text: str) -> list[str]:
        try:
            return shlex.split(text, comments=True)
        except ValueError as error:
            self.fault(f"not a command line: {error}")
            return []

    def command(self, text: str):
        words = self.split(text)
        while words and re.match(r"^[A-Z_]+=", words[0]):
            self.words(words.pop(0).split("=")[0])
        if words and re.search(r"(^|/)python3?$", words[0]):
            words.pop(0)
        if not words:
            return
        program, arguments = words[0].removeprefix("./"), words[1:]
        built = re.match(r"^build/([\w-]+)/(?:(bench|tests|examples)/)?(\w+)$", program)
        if built:
            return self.built_program(*built.groups(), arguments)
        if program == "tamias" or program in {name.split()[0] for name in self.repository.commands}:
            return self.tamias(arguments if program == "tamias" else words)
        if self.repository.is_script(program):
            return self.arguments(
                arguments, self.repository.script_options(program), f"{program} has no option"
            )
        if program == "-m" or program in OTHER_PROGRAMS:
            return self.arguments(arguments, None, "")
        self.fault(f"no such command: {program}")

    def built_program(self, preset: str, folder: str | None, name: str, arguments: list[str]):
        if not self.repository.says(f'"{preset}"') and preset != "gpu-check":
            self.fault(f"no such preset: {preset}")
        if folder is None and name == "tamias":
            return self.tamias(arguments)
        is_test = folder == "tests" and (
            self.repository.has_path("tests/" + name.removesuffix("_test"))
            or self.repository.says(name)
        )
        if not (is_test or self.repository.has_path(f"{folder}/{name}.cc")):
            self.fault(f"nothing builds {name}")
        if folder == "examples":
            return  # what they take says their first comment
        for argument in arguments:
            if argument.startswith("--gtest_filter="):
                pattern = argument.split("=")[1].split(".")[0].strip("*")
                if not any(word.startswith(pattern) for word in self.repository.code):
                    self.fault(f"no test is named {pattern}")
            elif not argument.startswith(("--gtest_", "--benchmark_")):
                self.fault(f"{name} takes no {argument}")

    def tamias(self, words: list[str]):
        commands = self.repository.commands
        if words and words[0].startswith("-"):
            return self.arguments(words, {"--help", "--version"}, "tamias has no option")
        name = words[0] if words else ""
        if name not in commands:
            return self.fault(f"no such command: tamias {name}")
        rest = words[1:]
        nested = {other.split()[1] for other in commands if other.startswith(name + " ")}
        if nested:
            if not rest:
                return  # the group of commands is spoken of
            if rest[0] not in nested:
                return self.fault(f"no such command: tamias {name} {rest[0]}")
            name, rest = f"{name} {rest[0]}", rest[1:]
        self.arguments(rest, commands[name], f"tamias {name} has no option")

    def arguments(self, words: list[str], known: set[str] | None, why: str):
        option = ""
        for word in words:
            if word in ("|", "&&", ";", ">", "\\"):
                return
            if word.startswith("--"):
                option = word.split("=")[0]
                if known is not None and option not in known:
                    self.fault(f"{why} {option}")
            elif option == "--set" and "=" in word and not PLACEHOLDER.match(word.split("=")[0]):
                if word.split("=")[0] != "key":
                    self.key(word.split("=")[0])
            elif (
                option == "--sparsity"
                and re.fullmatch(r"[a-z][\w.-]*", word)
                and suffix_of(word) not in SUFFIXES
            ):
                if word not in self.repository.profiles | {"auto", "off"}:
                    self.fault(f"no such profile: {word}")
            elif self.is_path(word) and word.split("/")[0] in self.repository.folders:
                self.path(word)

    # Fenced blocks.

    def block(self, block):
        self.where = (block.line, block.text.split("\n")[0])
        if block.language in ("sh", "bash"):
            self.shell(block)
        elif block.language in ("cpp", "c", "cmake", "python"):
            self.code(block)
        elif block.language in ("yaml", "yml"):
            self.yaml(block)
        elif block.language:
            self.fault(f"a block in a language that the test does not read: {block.language}")
        elif self.is_command(block.text.split("\n")[0]):
            self.shell(block)
        else:
            self.each_line(block, self.words)

    def each_line(self, block, check):
        for offset, line in enumerate(block.text.split("\n")):
            self.where = (block.line + offset, line.strip())
            check(line)

    def shell(self, block):
        variables: dict[str, str] = {}
        for offset, command in join_lines(block.text):
            self.where = (block.line + offset, command)
            command = re.sub(r"\$(\w+)", lambda m: variables.get(m.group(1), m.group()), command)
            assigned = re.match(r'^(\w+)=(?:"([^"]*)"|(\S*))$', command)
            if assigned:
                command = variables[assigned.group(1)] = (
                    assigned.group(2) or assigned.group(3) or ""
                )
            if not assigned or " " in command:
                self.command(command)

    def code(self, block):
        comment = COMMENT["c" if block.language in ("cpp", "c") else "sh"]
        text = comment.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), block.text)
        text = re.sub(r"#include [<\"]([\w/.]+)[>\"]", self.include, text)
        for offset, line in enumerate(STRING.sub('""', text).split("\n")):
            self.where = (block.line + offset, line.strip())
            for word in WORD.findall(line):
                if not self.is_exception(word) and word not in self.repository.code:
                    self.fault(f"no code has the name {word}")

    def include(self, match) -> str:
        name = match.group(1)
        used = f"#include <{name}>" in self.repository.text
        if "/" in name and not used and not self.repository.has_path("include/" + name):
            self.fault(f"no such public header: {name}")
        return ""

    def yaml(self, block):
        section = ""
        for offset, line in enumerate(block.text.split("\n")):
            self.where = (block.line + offset, line.strip())
            entry = re.match(r"^( *)([\w.]+):(.*)$", line)
            if not entry:
                continue
            indent, name, value = entry.groups()
            if not indent and not value.split("#")[0].strip():
                section = name
            else:
                self.key(f"{section}.{name}" if indent else name)


def check(
    document: Document, repository: Repository, exceptions: dict[str, str] | None = None
) -> list[Fault]:
    return Checker(document, repository, EXCEPTIONS if exceptions is None else exceptions).run()


def check_links(
    document: Document, documents: dict[str, Document], repository: Repository
) -> list[Fault]:
    """Links within the repository lead to a tracked file and, in documents, to a heading."""
    faults = []
    for link in document.links:
        if re.match(r"^[a-z]+:", link.target):
            continue
        path, _, anchor = link.target.partition("#")
        target = (
            posixpath.normpath(posixpath.join(posixpath.dirname(document.name), path))
            if path
            else document.name
        )
        if not repository.has_path(target):
            faults.append(
                Fault(document.name, link.line, link.target, "leads to no file of the repository")
            )
        elif anchor:
            slugs = (
                {heading.slug for heading in documents[target].headings}
                if target in documents
                else set()
            )
            if anchor not in slugs:
                faults.append(
                    Fault(document.name, link.line, link.target, f"{target} has no such heading")
                )
    return faults
