"""Every wrong input is one clear line that names the culprit and the remedy, before anything is trained."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from dynamo.cli import main
from dynamo.population import Population
from dynamo.runs import RunFolder

Commands = dict[str, list[str]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    """After the runs that the tests read were trained, nothing else is."""

    def step(*_: object, **__: object) -> None:
        pytest.fail("a training step was taken")

    monkeypatch.setattr("dynamo.meta.MetaTask.training_step", step)
    monkeypatch.setattr("dynamo.population.PopulationTask.training_step", step)


def complaint(words: list[str], capsys: Capture, prefix: str = "dynamo: error: ") -> str:
    """The one line that a failing command says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith(prefix)]
    return line


def population(commands: Commands, tmp_path: Path, *more: str) -> list[str]:
    return ["fit", *commands["population"], "--run", str(tmp_path / "run"), *more]


def meta(commands: Commands, tmp_path: Path, *more: str) -> list[str]:
    return ["fit", *commands["meta"], "--run", str(tmp_path / "run"), *more]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model.init_args.groups=[{name: a, fraction: 0}]"], ("'a'", "fraction is 0", "(0, 1]")),
        (["--model.init_args.groups=[{name: a, task: imdb}]"], ("'a'", "'imdb'", "only synthetic")),
        (["--model.init_args.groups=[{name: a, architecture: tcn}]"], ("'tcn'", "gru")),
        (["--model.init_args.lr=-1"], ("lr is -1",)),
        (["--data.init_args.batch_size=0"], ("batch_size",)),
        (["--fidelity.every_n_epochs=-1"], ("fidelity.every_n_epochs is -1", "0 turns it off")),
        (["--checkpoint.every_n_train_steps=-1"], ("checkpoint.every_n_train_steps is -1",)),
        (["--ckpt_path=nowhere.ckpt"], ("nowhere.ckpt is missing", "--ckpt_path")),
        (["--ckpt_path=best"], ("best.ckpt is missing", "train the run first")),
    ],
)
def test_options_out_of_range(
    commands: Commands, tmp_path: Path, capsys: Capture, more: list[str], words: tuple[str, ...]
) -> None:
    said = complaint(population(commands, tmp_path, *more), capsys)
    assert [word for word in words if word not in said] == []
    assert len(said) < 300
    assert not (tmp_path / "run").exists()


IMAGES = str(Path(__file__).resolve().parents[1] / "configs/population/demo_images.yaml")
RESNET = "name: a, architecture: resnet"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            [f"--model.init_args.groups=[{{{RESNET}, policy: flop}}]"],
            ("'flop'", "none, flip_crop, randaugment"),
        ),
        ([f"--model.init_args.groups=[{{{RESNET}, hidden_size: 3}}]"], ("'a'", "a resnet has no hidden_size")),
        ([f"--model.init_args.groups=[{{{RESNET}, widths: [3]}}]"], ("'a'", "widths is [3]", "4 whole numbers")),
        (["--model.init_args.groups=[{name: a, architecture: gru}]"], ("'a'", "reads text", "the data is images")),
        (["--data.init_args.policy=mixup"], ("'mixup'", "one of none, flip_crop")),
        (["--data=CIFAR100DataModule", "--data.init_args.subset=101"], ("2 to 100 classes", "got 101")),
        ([f"--model.init_args.groups=[{{{RESNET}, seed: -1}}]"], ("'a'", "seed is -1")),
    ],
)
def test_wrong_options_for_images(tmp_path: Path, capsys: Capture, more: list[str], words: tuple[str, ...]) -> None:
    said = complaint(["fit", "-c", IMAGES, "--run", str(tmp_path / "run"), *more], capsys)
    assert [word for word in words if word not in said] == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([f"--model.init_args.groups=[{{{RESNET}, fraction: 0.001}}]"], ("fraction 0.001", "take at least")),
        (["--data.init_args.val_items=9"], ("9 items cannot show all 10 classes",)),
    ],
)
def test_what_only_the_data_tells_leaves_the_folder_free(
    tmp_path: Path, capsys: Capture, more: list[str], words: tuple[str, ...]
) -> None:
    said = complaint(["fit", "-c", IMAGES, "--run", str(tmp_path / "run"), *more], capsys)
    assert [word for word in words if word not in said] == []
    assert not RunFolder(tmp_path / "run").started()


def test_images_and_texts_do_not_mix(commands: Commands, tmp_path: Path, capsys: Capture) -> None:
    digits = ["--data=DigitsDataModule"]
    said = complaint(meta(commands, tmp_path, *digits), capsys)
    assert "reads tokens, the data module has no words (vocab_size 0); take a data module with what they read" in said
    network = ["--model.init_args.network=dynamo.meta.ResidualMetaModel"]
    said = complaint(meta(commands, tmp_path, *network), capsys)
    assert "ResidualMetaModel reads images, the data module has words; use RecurrentMetaModel" in said


@pytest.mark.parametrize("more", [["--model.init_args.hiden_size=3"], ["--trainer.max_epoch=3"], ["--nonsense=1"]])
def test_unknown_options(commands: Commands, tmp_path: Path, capsys: Capture, more: list[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(population(commands, tmp_path, *more))
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert more[0].split("=")[0].rpartition(".")[2].strip("-") in said
    assert "Traceback" not in said


def test_an_unknown_key_in_a_file(commands: Commands, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "wrong.yaml").write_text("fidelity: {every_epoch: 1}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(population(commands, tmp_path, "-c", str(tmp_path / "wrong.yaml")))
    assert "every_epoch" in capsys.readouterr().err


def test_a_population_that_is_missing(commands: Commands, tmp_path: Path, capsys: Capture) -> None:
    for place in ("nowhere/population", "nowhere/*"):
        said = complaint(meta(commands, tmp_path, "--model.init_args.population", place), capsys)
        assert "nowhere" in said


def test_a_population_that_is_damaged(commands: Commands, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    copy = tmp_path / "population"
    shutil.copytree(trained / "population/population", copy)
    content = bytearray((copy / "bundle-0.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "bundle-0.safetensors").write_bytes(content)
    said = complaint(meta(commands, tmp_path, "--model.init_args.population", str(copy)), capsys)
    assert "bundle-0.safetensors is damaged" in said


def test_a_population_of_another_vocabulary(commands: Commands, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    said = complaint(meta(commands, tmp_path, "--data.init_args.vocab_size", "80"), capsys)
    assert "64" in said
    assert "80" in said
    copy = tmp_path / "population"
    shutil.copytree(trained / "population/population", copy)
    manifest = copy / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    start = text.index('"vocabulary": "') + len('"vocabulary": "')
    manifest.write_text(f"{text[:start]}{'0' * 64}{text[start + 64 :]}", encoding="utf-8")
    said = complaint(meta(commands, tmp_path, "--model.init_args.population", str(copy)), capsys)
    assert "00000000" in said
    assert "same data options" in said


def test_a_checkpoint_that_is_cut_short(commands: Commands, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    whole = (trained / "population/checkpoints/last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    said = complaint(population(commands, tmp_path, "--ckpt_path", str(tmp_path / "cut.ckpt")), capsys)
    assert "cut.ckpt is damaged" in said


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Copies of the runs `population` and `meta`, to go on with."""
    for kind in ("population", "meta"):
        shutil.copytree(trained / kind, tmp_path / kind)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("meta", ["--model.init_args.dimensions=3"], ("dimensions is 16 there and 3 here",)),
        ("meta", ["--model.init_args.groups={100%: a}"], ("members are 12 there and 4 here",)),
        (
            "meta",
            ["--model.init_args.network.init_args.hidden_size=5"],
            ("network.", " there and [", " here; "),
        ),
        ("population", ["--model.init_args.groups=[{name: a, count: 12}]"], ("number 0 is '100%-0", "there and 'a-0")),
        ("population", ["--data.init_args.train_size=500"], ("data is ", "there and ")),
        ("population", ["--model.init_args.members=0-3"], ("members are 12 there and 4 here",)),
    ],
)
def test_a_checkpoint_of_another_run(
    commands: Commands, copied: Path, capsys: Capture, kind: str, more: list[str], words: tuple[str, ...]
) -> None:
    """Before any step, and before anything in the folder is changed."""
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file() and "tfevents" not in file.name}
    words_of_run = ["fit", *commands[kind], "--run", str(copied / kind), "--ckpt_path=last", "--trainer.max_epochs=9"]
    said = complaint([*words_of_run, *more], capsys)
    assert "The checkpoint is one of another run: " in said
    assert [word for word in words if word not in said] == []
    assert "begin a new run with another --run" in said
    assert {file: file.read_bytes() for file in before} == before


def test_a_checkpoint_of_another_population(commands: Commands, copied: Path, capsys: Capture) -> None:
    """The same members by name, and other weights: by a hash."""
    population = Population.load(copied / "population/population")
    with torch.no_grad():
        population.bundles[0].readout_bias += 1
    population.save(copied / "other")
    run = ["fit", *commands["meta"], "--run", str(copied / "meta"), "--ckpt_path=last", "--trainer.max_epochs=9"]
    said = complaint([*run, f"--model.init_args.population={copied / 'other'}"], capsys)
    assert "The checkpoint is one of another run: population is " in said
    said = complaint(["test", *run[1:-2], f"--model.init_args.population={copied / 'other'}"], capsys)
    assert "The checkpoint is one of another run: population is " in said


def test_the_checkpoint_of_another_vocabulary(commands: Commands, copied: Path, capsys: Capture) -> None:
    state = torch.load(copied / "population/checkpoints/last.ckpt", weights_only=True)
    state["dynamo"]["vocabulary"] = "0" * 64
    torch.save(state, copied / "population/checkpoints/last.ckpt")
    run = ["fit", *commands["population"], "--run", str(copied / "population"), "--ckpt_path=last"]
    assert "vocabulary is 00000000... there and " in complaint(run, capsys)


def test_a_flipped_bit_of_a_checkpoint(commands: Commands, copied: Path, capsys: Capture) -> None:
    """In the middle of the weights, where torch would notice nothing; going on, testing and analysing."""
    file = copied / "meta/checkpoints/last.ckpt"
    with zipfile.ZipFile(file) as archive:
        weights = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
    content = bytearray(file.read_bytes())
    content[content.index(weights) + len(weights) // 2] ^= 1
    file.write_bytes(content)
    run = [*commands["meta"], "--run", str(copied / "meta")]
    for words in (
        ["fit", *run, "--ckpt_path=last", "--trainer.max_epochs=9"],
        ["test", *run],
        ["analyze", "embedding", "--run", str(copied / "meta")],
    ):
        assert "the checksum of its part 'data/" in complaint(words, capsys)


@pytest.mark.parametrize(
    "content", [b"run: [", b"\xff\xfe", b"run: !!python/object/apply:os.system [touch x]", b"- 1", b"a: &a [*a]"]
)
def test_a_damaged_configuration(
    commands: Commands, copied: Path, capsys: Capture, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    (copied / "damaged.yaml").write_bytes(content)
    for form in (["-c", "damaged.yaml"], ["--config=damaged.yaml"]):
        assert "damaged.yaml" in complaint(["fit", *commands["population"], *form, "--run", "new"], capsys)
    (copied / "meta/config.yaml").write_bytes(content)
    assert "config.yaml" in complaint(["analyze", "embedding", "--run", str(copied / "meta")], capsys)
    assert not (copied / "x").exists()


def test_a_run_without_an_end(commands: Commands, tmp_path: Path, capsys: Capture) -> None:
    for words in (population, meta):
        said = complaint(words(commands, tmp_path, "--trainer.max_epochs=-1"), capsys)
        assert "schedule 'cosine' has to know how many steps there are: set trainer.max_epochs" in said


@pytest.mark.parametrize("command", ["test", "validate"])
def test_what_was_never_trained_is_not_measured(
    commands: Commands, tmp_path: Path, capsys: Capture, command: str
) -> None:
    said = complaint([command, *commands["population"], "--run", str(tmp_path / "new")], capsys)
    assert "last.ckpt is missing" in said


def real(kind: str, root: Path, tmp_path: Path) -> list[str]:
    """A population on a text data set under `root`."""
    configs = Path(__file__).resolve().parents[1] / "configs"
    return [
        *("fit", "-c", str(configs / "population/demo.yaml"), "--data", f"datamodules.{kind}"),
        *("--data.init_args.root", str(root), "--run", str(tmp_path / "run"), "--trainer.accelerator=cpu"),
    ]


def test_no_data_and_no_network(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said = complaint(real("IMDBDataModule", tmp_path, tmp_path), capsys)
    assert "aclImdb" in said
    assert str(tmp_path) in said


def test_an_empty_review(tmp_path: Path, capsys: Capture) -> None:
    for split in ("train", "test"):
        for name in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / split / name
            folder.mkdir(parents=True)
            (folder / "0_1.txt").write_text("" if (split, name) == ("train", "pos") else "a film", encoding="utf-8")
    said = complaint(real("IMDBDataModule", tmp_path, tmp_path), capsys)
    assert "train/pos/0_1.txt is empty" in said


def test_a_label_out_of_range(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "ag_news_csv").mkdir()
    for split in ("train", "test"):
        (tmp_path / "ag_news_csv" / f"{split}.csv").write_text('"1","a","b"\n"7","c","d"\n', encoding="utf-8")
    said = complaint(real("AGNewsDataModule", tmp_path, tmp_path), capsys)
    assert "train.csv, line 2: label '7'" in said


def test_analyses_of_what_is_no_meta_run(trained: Path, tmp_path: Path, capsys: Capture) -> None:
    said = complaint(["analyze", "embedding", "--run", str(trained / "population")], capsys)
    assert "not the run of a meta-model" in said
    said = complaint(["analyze", "averaging", "--run", str(tmp_path / "none")], capsys)
    assert "none is no run" in said
    said = complaint(["analyze", "embedding", "--run", "a", "b", "--below", "c"], capsys)
    assert "--below 1" in said
    said = complaint(["analyze", "colours", "--run", str(trained / "meta")], capsys)
    assert "embedding" in said
