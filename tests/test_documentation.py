"""Does what the documentation says hold? Its code runs, its commands are understood, what it names is there.

A code block that no rule knows is an error: no page can hold what nobody tries.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from torch.distributed.run import get_args_parser

from dynamo.analyze.command import ANALYSES, parse
from dynamo.cli import DynamoCLI, build, main
from dynamo.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs/README.md", *sorted(DOCS.rglob("*.md"))]
TROUBLE = DOCS / "how_to/troubleshooting.md"
TINY = ["-c", "configs/debug/tiny.yaml"]
PLACES = {  # our things in the place of the reader's own
    "CONFIG": "configs/population/demo.yaml",
    "my_map.yaml": "configs/meta/demo.yaml",
    "RUN": "runs/demo/seed=0",
    "OTHER": "runs/demo/population/population",
    "KIND": "embedding",
    "FIGURE": "fig3_sizes",
    "COMMAND": "fit",
    "FOLDER": "runs",
    "HOST": "localhost",
}
NO_PICTURES = [f"--{name}.every_n_epochs=0" for name in ("embedding_pca", "similarity_mds", "accuracy_map", "fidelity")]
SMALL = {  # options that make an analysis a matter of a second; the other kinds are parsed only
    "embedding": ["--permutations", "20"],
    "similarity": ["--items", "40", "--blocks", "4", "--replicates", "20", "--permutations", "20"],
    "embed": ["--steps", "3"],
}
MAKES = {"configs/population/demo.yaml": "population", "configs/meta/demo.yaml": "meta"}
INCLUDE = re.compile(r'^--8<-- "([^":]+):(\d+):(\d+)"$', re.MULTILINE)


class Block(NamedTuple):
    """A code block: where it stands, the language it names, and its text with what it includes."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


def inline(page: Path) -> Iterator[Token]:
    for token in tokens(page):
        yield from token.children or ()


def said(page: Path) -> list[str]:
    """What stands in the text as code."""
    return [" ".join(token.content.split()) for token in inline(page) if token.type == "code_inline"]


def blocks(page: Path) -> list[Block]:
    def included(found: re.Match[str]) -> str:
        lines = (ROOT / found[1]).read_text(encoding="utf-8").splitlines()
        return "\n".join(lines[int(found[2]) - 1 : int(found[3])])

    return [
        Block(page, token.map[0] + 1, token.info.strip(), INCLUDE.sub(included, token.content))
        for token in tokens(page)
        if token.type in ("fence", "code_block") and token.map
    ]


def lines_of(block: Block) -> list[str]:
    """The lines of a block that are not empty and no comment."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def is_rendered(page: Path) -> bool:
    """Whether it was made from a notebook, which is run as a whole elsewhere."""
    return page.parent == DOCS / "notebooks" and page.name != "index.md"


def is_shell(block: Block) -> bool:
    known = block.language in ("", "sh") and lines_of(block)
    return bool(known) and all(line.split()[0] in RULES for line in lines_of(block))


def commands() -> dict[str, str]:
    """Every command that a reader could type, once: those of code blocks and those in the text; and where it stands."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in filter(is_shell, () if is_rendered(page) else blocks(page)):
            for line in lines_of(block):
                found.setdefault(shlex.join(shlex.split(line, comments=True)), str(block))
        for text in said(page):
            if " " in text and text.split(" ")[0] in RULES:
                found.setdefault(shlex.join(shlex.split(text)), str(page.relative_to(ROOT)))
    return found


def ours(word: str) -> str:
    return PLACES.get(word) or re.sub(r"(?<![\w-])[A-Z]+(?![\w-])", lambda name: PLACES.get(name[0], name[0]), word)


# What is done with a command.


@pytest.fixture(scope="module")
def room(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as a reader has it after `dynamo reproduce demo`, with networks that are hardly trained."""
    room = tmp_path_factory.mktemp("room")
    (room / "configs").symlink_to(ROOT / "configs")
    for run, kind in (("population", "population"), ("seed=0", "meta")):
        shutil.copytree(trained / kind, room / "runs/demo" / run)
    main(["analyze", "embedding", "--run", str(room / "runs/demo/seed=0"), "--permutations", "20"])
    main(
        [
            "analyze",
            "averaging",
            "--run",
            str(room / "runs/demo/seed=0"),
            "--steps",
            "2",
            "--out",
            str(room / "runs/demo"),
        ]
    )
    return room


@pytest.fixture
def here(room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(room)
    return room


def parsed(words: Sequence[str]) -> None:
    """Hand a training or test to the real parser, which reads every file and option; nothing is built."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("instantiate_classes", "before_instantiate_classes"):
            patch.setattr(DynamoCLI, name, lambda self: None)
        patch.setattr(DynamoCLI, "_run_subcommand", lambda self, name: None)
        build(list(words), run=True)


def first(room: Path, *what: str) -> bool:
    """Whether this has not been run yet: one command of a kind is, the others are parsed."""
    mark = room / "-".join(["tried", *what])
    fresh = not mark.exists()
    mark.touch()
    return fresh


def train(words: list[str], room: Path) -> None:
    """The demo's trainings are run, in seconds: one of each kind, and those with options of the model."""
    known = [MAKES[word] for word in words if word in MAKES]
    elsewhere = any(word.startswith("configs/hardware") for word in words)
    special = any(word.startswith("--model") for word in words)
    if "--print_config" in words:
        with pytest.raises(SystemExit, match="0"):
            main(words)
    elif not known or elsewhere or not (special or first(room, words[0], *known)):
        parsed(words)
    elif words[0] == "fit":
        run = room / "runs/tried"
        shutil.rmtree(run, ignore_errors=True)
        main([*words, *TINY, *NO_PICTURES, "--trainer.max_epochs", "1", "--run", str(run)])
        assert RunFolder(run).done("fit")
    else:
        main([*words, *TINY, *NO_PICTURES, "--run", f"runs/demo/{'seed=0' if known == ['meta'] else 'population'}"])


def analyse(words: list[str], room: Path) -> None:
    """Small analyses are run, on runs put where the command looks for them; others are parsed."""
    kind = next(kind for kind in ANALYSES if kind.name == words[0])
    if not words[1:]:
        return  # named, not typed
    names = parse(kind, words[1:])[1]
    if kind.name not in SMALL or not first(room, kind.name):
        return
    for name in (*names["run"], *names["below"]):
        if not Path(name).exists():
            shutil.copytree(room / "runs/demo/seed=0", name)
    population = getattr(parse(kind, words[1:])[0], "population", None)
    if population and not Path(population).exists():
        shutil.copytree(room / "runs/demo/population/population", population)
    main(["analyze", *words, *SMALL[kind.name]])
    assert (Path(names["out"] or names["run"][0]) / "figures" / f"{kind.name}.png").is_file()


def dynamo(words: list[str], room: Path) -> None:
    match words:
        case [] | ["--help" | "--version"] | ["analyze"]:
            main(words)
        case ["fit" | "test" | "reproduce" | "report"]:
            pass  # named, not typed
        case [*_, "--help"]:
            with pytest.raises(SystemExit, match="0"):
                main(words)
        case ["fit" | "test" | "validate" | "predict", *_]:
            train(words, room)
        case ["analyze", *rest]:
            analyse(rest, room)
        case ["reproduce", *_]:
            main([*words, *(["--dry-run"] if "--dry-run" not in words else [])])
        case _:
            main(words)  # an unknown command fails


def make(words: list[str], room: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


def pip(words: list[str], room: Path) -> None:
    assert words[0] in ("install", "download")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = [name for word in words for part in re.findall(r"\.\[([\w,]+)\]", word) for name in part.split(",")]
    assert set(asked) <= set(extras)


def python(words: list[str], room: Path) -> None:
    match words:
        case ["-c", code]:
            exec(compile(code, "documentation", "exec"), {})
        case ["-m", "pytest", *rest]:
            assert all((ROOT / word).exists() for word in rest if "/" in word)
        case ["-m", module, *_]:
            assert importlib.util.find_spec(module)
        case _:
            pytest.fail(f"no rule for python {shlex.join(words)}")


def tensorboard(words: list[str], room: Path) -> None:
    assert entry_points(group="console_scripts", name="tensorboard")
    assert words[:2] == ["--logdir", "runs"]
    assert words[2:] in ([], ["--samples_per_plugin", "images=100"])


def torchrun(words: list[str], room: Path) -> None:
    asked = get_args_parser().parse_args(words)
    assert (asked.module, asked.training_script) == (True, "dynamo")
    dynamo(asked.training_script_args, room)


def sbatch(words: list[str], room: Path) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / words[0])], check=False).returncode == 0
    dynamo(["fit", *words[1:], "-c", "configs/hardware/slurm.yaml", "--ckpt_path", "last"], room)


def source(words: list[str], room: Path) -> None:
    """The environment that the Makefile makes."""
    environment = re.search(r"^VENV \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert environment
    assert words == [f"{environment[1]}/bin/activate"]


def bash(words: list[str], room: Path) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / words[0])], check=False).returncode == 0


RULES: dict[str, Callable[[list[str], Path], None]] = {
    rule.__name__: rule for rule in (dynamo, make, pip, python, tensorboard, torchrun, sbatch, source, bash)
}


@pytest.mark.parametrize(("command", "place"), commands().items(), ids=commands())
def test_a_command_is_understood(command: str, place: str, here: Path) -> None:
    name, *words = (ours(word) for word in shlex.split(command))
    RULES[name](words, here)


def test_options_that_the_text_names_are_options(here: Path) -> None:
    """Such as `--trainer.max_epochs 26`: of a population or a meta-model, on texts or images."""
    found = {ours(text): page for page in PAGES for text in said(page) if re.match(r"--\w+\.[\w.]+[ =]\S", text)}
    assert found
    for text, page in found.items():
        configs = ("meta/imdb_gru_sizes", "population/imdb_gru_sizes", "population/cifar100_resnet_sizes")
        for config in configs:
            try:
                parsed(["fit", "-c", f"configs/{config}.yaml", *shlex.split(text)])
                break
            except SystemExit:
                pass
        else:
            pytest.fail(f"{page.relative_to(ROOT)} names {text}, and no training has such an option")


# What is done with the other blocks.


def yaml_block(block: Block, room: Path) -> None:
    """A configuration: the real parser takes it. What is included from one is a comment."""
    content = yaml.safe_load(block.text)
    if content is None:
        assert block.text.startswith("# Purpose")
        return
    Path("mine.yaml").write_text(block.text, encoding="utf-8")
    parsed(["fit", "-c", "mine.yaml"])


def numbers_block(block: Block, room: Path) -> None:
    """What `dynamo reproduce demo` tells at its end: every number is one that a demo has."""
    found: dict[str, Any] = {}
    for path in sorted((room / "runs/demo").rglob("results/*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    found["fidelity"] = found["mean"]
    for line in lines_of(block):
        here = found
        name, number = line.split()[:2]
        float(number)
        for part in name.split("."):
            here = here[part]


def message_block(block: Block, room: Path) -> None:
    """An error message: its fixed parts stand in one message of the code, in this order."""
    parts = [part.strip() for part in re.split(r"<[A-Z ]+>", " ".join(block.text.split()))]
    assert max(map(len, parts)) >= 12, "too little to be recognised by"
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert any(pattern.search(message) for message in messages()), f"{block}: no such message"


@cache
def messages() -> frozenset[str]:
    """Every text of the code but docstrings, with a gap where something is put in."""
    texts = set()
    for file in (file for package in ("dynamo", "datamodules", "callbacks") for file in (ROOT / package).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in (node for node in nodes if id(node) not in docstrings):
            values = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts.add("".join(str(v.value) if isinstance(v, ast.Constant) else "\n" for v in values))
    return frozenset(texts)


def flow_block(block: Block, room: Path) -> None:
    """The order of the packages."""
    names = [name.strip() for name in block.text.splitlines()[0].split("->")]
    assert all((ROOT / name).is_dir() or (ROOT / "dynamo" / name).is_dir() for name in names)


def citation_block(block: Block, room: Path) -> None:
    import dynamo

    (number,) = re.findall(r"eprint = \{([\d.]+)\}", block.text)
    assert f"arXiv {number}" in (dynamo.__doc__ or "")


def rule_of(block: Block) -> Callable[[Block, Path], None] | None:
    """How a block is tried, if it is neither commands nor Python; None if nobody knows."""
    first = block.text.split()[:1]
    if block.language == "yaml":
        return yaml_block
    if block.page == TROUBLE and block.language == "text":
        return message_block
    if block.language in ("", "text") and all(re.match(r"[\w.%]+ +-?[\d.]+( |$)", line) for line in lines_of(block)):
        return numbers_block
    if block.text.startswith("datamodules ->"):
        return flow_block
    return citation_block if first and first[0].startswith("@misc") else None


OTHERS = [
    block
    for page in PAGES
    for block in blocks(page)
    if not is_rendered(page) and block.language != "python" and not is_shell(block)
]


@pytest.mark.parametrize("block", OTHERS, ids=str)
def test_a_block_that_is_neither_commands_nor_python_holds(block: Block, here: Path) -> None:
    rule = rule_of(block)
    assert rule, f"{block}: no rule tries this block; see RULES and rule_of"
    rule(block, here)


PYTHON = [page for page in PAGES if not is_rendered(page) and any(b.language == "python" for b in blocks(page))]


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, in one namespace; trainings take two batches."""
    build_trainer = pytorch_lightning.Trainer.__init__
    tiny = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"}

    def small(self: pytorch_lightning.Trainer, *args: Any, **options: Any) -> None:  # noqa: ANN401
        build_trainer(self, *args, **{**options, **tiny, "enable_progress_bar": False, "enable_model_summary": False})

    monkeypatch.setattr(pytorch_lightning.Trainer, "__init__", small)
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if is_rendered(page)], ids=lambda page: page.stem)
def test_a_rendered_notebook_shows_the_code_of_the_notebook(page: Path) -> None:
    notebook = json.loads((ROOT / "notebooks" / f"{page.stem}.ipynb").read_text(encoding="utf-8"))
    cells = {"".join(cell["source"]).strip() for cell in notebook["cells"] if cell["cell_type"] == "code"}
    told = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    shown = {block.text.strip() for block in blocks(page) if block.language == "python"}
    assert all(code in cells or f"```python\n{code}\n```" in told for code in shown)


# What the pages name.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files of the repository, and names of the library in links: `[Population][dynamo.population.Population]`."""
    tops = r"(?:configs|docs|dynamo|datamodules|callbacks|tests|benchmarks|notebooks|\.ci)"
    words = [*said(page), *(word for block in filter(is_shell, blocks(page)) for word in block.text.split())]
    named = [word for word in words if re.fullmatch(rf"{tops}/[\w./*-]+", word)]
    named = [
        re.sub(r"\bname\b|(?<=test_)name\b", "imdb", word).replace("test_NAME", "test_text_cache") for word in named
    ]
    assert [word for word in named if not list(ROOT.glob(word)) and "NAME" not in word] == []
    for name in re.findall(r"\[[^\]]+\]\[([a-z][\w.]+)\]", page.read_text(encoding="utf-8")):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in (token.attrGet("href") or token.attrGet("src") for token in inline(page)):
        if target and not re.match(r"https?://", str(target)):
            name, _, anchor = str(target).partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and MkDocs make them."""
    headings = [
        after.content
        for token, after in zip(tokens(page), tokens(page)[1:], strict=False)
        if token.type == "heading_open"
    ]
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()) for text in headings}


@pytest.mark.parametrize(
    ("text", "language"), [("rm -rf runs", "sh"), ("dynamo fit\nls", ""), ("x = 1", "py"), ("a tree", "text")]
)
def test_a_block_that_nobody_tries_is_found(text: str, language: str) -> None:
    block = Block(DOCS / "index.md", 1, language, text)
    assert not is_shell(block)
    assert rule_of(block) is None


def test_a_message_that_the_code_does_not_have_is_found() -> None:
    with pytest.raises(AssertionError, match="no such message"):
        message_block(Block(TROUBLE, 1, "text", "<RUN> holds a run already. Go on with --ckpt_path first"), ROOT)
