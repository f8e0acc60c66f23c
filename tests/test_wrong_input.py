"""Every wrong input is one clear line that names the culprit and the remedy, before anything is trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dynamo.cli import main
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
    assert "reads tokens, the data module has images; use the data module the population was trained with" in said
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
