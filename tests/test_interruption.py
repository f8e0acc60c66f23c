"""A run that was interrupted, by whatever and wherever, ends as one that never was: weights, metrics, events, files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[1]
Commands = dict[str, list[str]]
Zygote = Any  # of conftest.py
TIMES = ("/seconds", "/finished")
"""What in the results of a stage says how long it took, and when it was over."""

SHORT = ["--trainer.max_epochs=4", "--trainer.limit_train_batches=5", "--checkpoint.every_n_train_steps=2"]
KINDS = {
    "population": [*SHORT, "--snapshots.every_n_epochs=2"],
    # 3 epochs, and pictures of all callbacks, but small ones
    "meta": [
        *(*SHORT, "--trainer.max_epochs=3", "--model.init_args.members_per_step=5"),
        *("--accuracy_map.size=3", "--accuracy_map.items=8", "--similarity_mds.every_n_epochs=2"),
    ],
}


@pytest.fixture(scope="session")
def words(commands: Commands, trained: Path) -> dict[str, list[str]]:
    """The commands whose runs are interrupted, without `--run`; they may always be given again."""
    return {kind: ["fit", *commands[kind], *own, "--ckpt_path=last"] for kind, own in KINDS.items()}


@pytest.fixture(scope="session")
def whole(words: dict[str, list[str]], _zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs that nothing interrupts."""
    place = tmp_path_factory.mktemp("whole")
    for kind, command in words.items():
        _zygote.out = place / "out"
        assert _zygote.run([*command, f"--run={place / kind}"]) == 0, _zygote.said()
    return {kind: place / kind for kind in words}


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """What stands at the ends of nested dicts and lists, with the way there."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{name}/{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, part in enumerate(value):
            yield from leaves(part, f"{name}/{index}")
    else:
        yield name, value


def checkpoint(run: Path, name: str) -> dict[str, object]:
    """All of a checkpoint but the clock and the names of event files; tensors as their bytes."""
    if not (run / f"checkpoints/{name}.ckpt").exists():
        return {}
    found = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
    return {
        f"{name}.ckpt{key}": value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
        for key, value in leaves(found)
        if "seconds" not in key and "event_files" not in key
    }


def events(run: Path) -> dict[str, object]:
    """Every scalar and picture as a reader of the folder sees it, and what is told of them.

    Of the costs, which are times, the steps, and of the texts, which name the run's folder.
    """
    board = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    tags = board.Tags()
    scalars: dict[str, object] = {
        tag: [(e.step, None if tag.startswith("cost/") else e.value) for e in board.Scalars(tag)]
        for tag in tags["scalars"]
    }
    told = {f"{tag}: caption": board.SummaryMetadata(tag).summary_description for tag in [*scalars, *tags["images"]]}
    texts = {tag: [e.step for e in board.Tensors(tag)] for tag in tags["tensors"]}
    pictures = {tag: [(e.step, e.encoded_image_string) for e in board.Images(tag)] for tag in tags["images"]}
    return {**scalars, **told, **texts, **pictures}


def files(run: Path) -> dict[str, object]:
    """The content of every file that the run left, but those of the functions above, and of JSON files no times."""
    found: dict[str, object] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        if path.suffix == ".json":
            found |= {
                f"{path.relative_to(run)}{k}": v for k, v in leaves(json.loads(path.read_text())) if k not in TIMES
            }
        elif "tfevents" not in path.name and path.suffix != ".ckpt" and path.name not in (".lock", "config.yaml"):
            found[str(path.relative_to(run))] = path.read_bytes()
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Everything in which two runs differ."""
    pairs = [(events(one), events(other)), (files(one), files(other))]
    pairs += [(checkpoint(one, name), checkpoint(other, name)) for name in ("last", "best")]
    return [key for a, b in pairs for key in {**a, **b} if key not in a or key not in b or a[key] != b[key]]


POPULATION, META = "dynamo.population:PopulationTask", "dynamo.meta:MetaTask"
PLACES = [
    ("population", f"{POPULATION}.training_step", 1),
    ("population", f"{POPULATION}.training_step", 8),
    ("population", f"{POPULATION}.validation_step", 2),
    ("population", "callbacks:Snapshots.on_train_epoch_end", 2),
    ("population", "torch:save", 4),  # nothing of the checkpoint is written yet
    ("population", "dynamo.files:flush", 6),  # written or renamed, and not flushed
    ("population", "callbacks:PopulationArtifact.on_fit_end", 1),  # trained, the population not written
    ("population", "callbacks:StageResults.teardown", 1),  # everything but the numbers
    ("meta", f"{META}.training_step", 9),
    ("meta", "callbacks:FidelityTable.on_validation_batch_end", 2),
    ("meta", "callbacks:SimilarityMDS.draw", 1),
    ("meta", "dynamo.files:flush", 9),
]


@pytest.mark.parametrize(("kind", "at", "call"), PLACES)
def test_killed_and_resumed_is_as_never_interrupted(
    zygote: Zygote, words: Commands, whole: dict[str, Path], tmp_path: Path, kind: str, at: str, call: int
) -> None:
    command = [*words[kind], f"--run={tmp_path / 'run'}"]
    assert zygote.run(command, at=at, call=call, signal=signal.SIGKILL) == -signal.SIGKILL
    assert zygote.run(command) == 0, zygote.said()
    assert differences(whole[kind], tmp_path / "run") == []


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.accumulate_grad_batches=2"],
        ["--trainer.val_check_interval=2"],
        ["--trainer.check_val_every_n_epoch=3", "--trainer.max_epochs=-1", "--trainer.max_steps=13"],
        ["--trainer.accumulate_grad_batches=3", "--trainer.val_check_interval=3", "--checkpoint.every_n_train_steps=1"],
    ],
    ids=["accumulated", "validated inside epochs", "so many steps", "all of it"],
)
def test_however_the_training_is_laid_out(zygote: Zygote, words: Commands, tmp_path: Path, options: list[str]) -> None:
    command = [*words["population"], *options]
    assert zygote.run([*command, f"--run={tmp_path / 'whole'}"]) == 0, zygote.said()
    for call in (7, 4, 5):
        harm = {"at": f"{POPULATION}.training_step", "call": call, "signal": signal.SIGKILL}
        assert zygote.run([*command, f"--run={tmp_path / 'run'}"], **harm) == -signal.SIGKILL
    assert zygote.run([*command, f"--run={tmp_path / 'run'}"]) == 0, zygote.said()
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize(
    ("kind", "number", "at", "call", "step"),
    [
        ("population", signal.SIGTERM, f"{POPULATION}.training_step", 8, 8),
        ("population", signal.SIGINT, f"{POPULATION}.training_step", 10, 10),  # before the validation after it
        ("population", signal.SIGUSR1, f"{POPULATION}.validation_step", 1, 5),  # after this validation
        ("population", signal.SIGTERM, "dynamo.event_files:RunBoard.rewind", 1, 0),  # before the first step
        ("meta", signal.SIGTERM, f"{META}.training_step", 5, 5),
        ("meta", signal.SIGUSR1, "callbacks:EmbeddingPCA.draw", 1, 5),
    ],
)
def test_a_signal_ends_the_run_at_the_next_step(
    zygote: Zygote,
    words: Commands,
    whole: dict[str, Path],
    tmp_path: Path,
    kind: str,
    number: signal.Signals,
    at: str,
    call: int,
    step: int,
) -> None:
    command = [*words[kind], "--checkpoint.every_n_train_steps=0", f"--run={tmp_path / 'run'}"]
    if step == 0:  # `rewind` is called in a run that goes on
        assert zygote.run(command, at=f"{POPULATION}.training_step", signal=signal.SIGKILL) == -signal.SIGKILL
    assert zygote.run(command, at=at, call=call, signal=number) == 128 + number, zygote.said()
    assert checkpoint(tmp_path / "run", "last")["last.ckpt/global_step"] == step
    assert f"Stopped by {number.name} after step {step}. Go on with" in zygote.said()
    assert not (tmp_path / "run/results/fit.json").exists()
    assert zygote.run(command) == 0, zygote.said()
    assert differences(whole[kind], tmp_path / "run") == []


def test_a_second_interrupt_ends_at_once(zygote: Zygote, words: Commands, tmp_path: Path) -> None:
    command = [*words["population"], "--data.init_args.eval_batch_size=1", f"--run={tmp_path / 'run'}"]
    pid = zygote.start(command, at=f"{POPULATION}.validation_step", call=2, signal=signal.SIGINT)
    while "press Ctrl-C again" not in zygote.said():
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert zygote.wait(pid) == [128 + signal.SIGINT]
    assert "Stopped by" not in zygote.said()  # it did not wait for the end of the validation


def test_a_signal_ends_a_test_at_once(zygote: Zygote, commands: Commands, trained: Path) -> None:
    words = ["test", *commands["population"], f"--run={trained / 'population'}"]
    before = (trained / "population/results/test.json").read_bytes()
    harm = {"at": f"{POPULATION}.test_step", "call": 1, "signal": signal.SIGTERM}
    assert zygote.run(words, **harm) == 128 + signal.SIGTERM
    assert (trained / "population/results/test.json").read_bytes() == before


def test_two_processes_stop_together_and_go_on_exactly(zygote: Zygote, words: Commands, tmp_path: Path) -> None:
    for kind in words:
        one, other = (
            [*words[kind], "--checkpoint.every_n_train_steps=0", f"--run={tmp_path / kind / name}"] for name in "ab"
        )
        assert zygote.wait(*zygote.start_ranks(one)) == [0, 0], zygote.said()
        at = f"{POPULATION if kind == 'population' else META}.training_step"
        # Of the two it is rank 1 that gets the signal, and rank 0 whose exit code counts.
        ended = zygote.wait(*zygote.start_ranks(other, at=at, call=7, signal=signal.SIGTERM))
        assert ended == [128 + signal.SIGTERM, 0], zygote.said()
        assert checkpoint(tmp_path / kind / "b", "last")["last.ckpt/global_step"] == 7
        ended = zygote.wait(*zygote.start_ranks(other, at=at, call=2, signal=signal.SIGKILL))
        assert ended == [1, -signal.SIGKILL], zygote.said()
        assert "process 0 of 2 lost contact" in zygote.said()
        assert zygote.wait(*zygote.start_ranks(other)) == [0, 0], zygote.said()
        assert differences(tmp_path / kind / "a", tmp_path / kind / "b") == []


@pytest.mark.parametrize("harmed", [0, 1])
def test_an_error_in_one_process_ends_all_with_its_message(
    zygote: Zygote, words: Commands, tmp_path: Path, harmed: int
) -> None:
    """In a callback, whose other half waits for numbers that do not come."""
    harm = {"at": "callbacks:EmbeddingPCA.compute", "call": 2, "raise": "the projector is on fire"}
    pids = zygote.start_ranks([*words["meta"], f"--run={tmp_path / 'run'}"], harmed=harmed, **harm)
    assert zygote.wait(*pids, patience=10) == [1, 1], zygote.said()
    assert f"the projector is on fire') (process {harmed} of 2)" in zygote.said()
    assert f"process {1 - harmed} of 2 lost contact" in zygote.said()


def test_another_number_of_processes_goes_on_and_says_so(zygote: Zygote, words: Commands, tmp_path: Path) -> None:
    command = [*words["population"], f"--run={tmp_path / 'run'}"]
    harm = {"at": f"{POPULATION}.training_step", "call": 8, "signal": signal.SIGTERM}
    assert zygote.run(command, **harm) == 128 + signal.SIGTERM
    ended = zygote.wait(*zygote.start_ranks(command, at=harm["at"], call=5, signal=signal.SIGUSR1))
    assert ended == [128 + signal.SIGUSR1, 0], zygote.said()
    assert "written by 1 processes, now there are 2" in zygote.said()
    assert checkpoint(tmp_path / "run", "last")["last.ckpt/global_step"] == 13
    assert zygote.run(command) == 0, zygote.said()
    assert "written by 2 processes, now there are 1" in zygote.said()
    assert json.loads((tmp_path / "run/results/fit.json").read_text())["steps"] == 20


def test_one_process_trains_in_a_folder(zygote: Zygote, words: Commands, tmp_path: Path) -> None:
    command = [*words["population"], f"--run={tmp_path / 'run'}"]
    stopped = {"at": f"{POPULATION}.training_step", "call": 3, "signal": signal.SIGSTOP}
    first = zygote.start(command, **stopped)
    while not (tmp_path / "run/checkpoints/last.ckpt").exists():
        time.sleep(0.02)
    assert zygote.run(command) == 1
    assert f"{tmp_path / 'run'} is being written by another process (process {first})" in zygote.said()
    os.kill(first, signal.SIGKILL)
    assert zygote.wait(first) == [-signal.SIGKILL]
    assert zygote.run(command) == 0  # the dead keep no lock


def test_a_full_disk_leaves_the_checkpoint_before(
    zygote: Zygote, words: Commands, whole: dict[str, Path], tmp_path: Path
) -> None:
    command = [*words["population"], f"--run={tmp_path / 'run'}"]
    assert zygote.run(command, **{"at": "torch:save", "call": 4, "raise": 28}) == 1
    (line,) = (line for line in zygote.said().splitlines() if line.startswith("dynamo: error"))
    assert "last.ckpt could not be written: No space left on device. Free some space" in line
    assert "the last.ckpt of before is whole" in line
    assert "Traceback" not in zygote.said()
    assert checkpoint(tmp_path / "run", "last")["last.ckpt/global_step"] == 4
    assert zygote.run(command) == 0
    assert differences(whole["population"], tmp_path / "run") == []


def test_a_slurm_job_queues_itself_again_and_goes_on(
    zygote: Zygote, words: Commands, whole: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "bin/scontrol").chmod(0o755)
    job = {"JOB_ID": "77", "JOB_NAME": "map", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    env = {f"SLURM_{key}": value for key, value in {**job, "NODELIST": "localhost", "NNODES": "1"}.items()}
    env |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [word for word in words["population"] if "ckpt_path" not in word] + [f"--run={tmp_path / 'run'}"]
    harm = {"at": f"{POPULATION}.training_step", "call": 8}
    assert zygote.run(command, env=env, signal=signal.SIGUSR1, **harm) == 128 + signal.SIGUSR1, zygote.said()
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    env["SLURM_RESTART_COUNT"] = "1"  # the same command: it knows by itself that it goes on
    assert zygote.run(command, env=env, signal=signal.SIGTERM, **harm) == 128 + signal.SIGTERM
    assert (tmp_path / "asked").read_text() == "requeue 77\n"  # SIGTERM is how a job is cancelled
    env["SLURM_RESTART_COUNT"] = "2"
    assert zygote.run(command, env=env) == 0, zygote.said()
    assert differences(whole["population"], tmp_path / "run") == []


@pytest.mark.slow
def test_reproduce_is_stopped_or_killed_and_run_again(zygote: Zygote, commands: Commands, tmp_path: Path) -> None:
    fit = f"fit {' '.join(commands['population'])}"
    for name in ("whole", "run"):
        (tmp_path / name / "configs/figures").mkdir(parents=True)
        (tmp_path / name / "configs/figures/fig.yaml").write_text(f"laptop: ['{fit} --run r']", encoding="utf-8")
    words = ["reproduce", "fig", "--trainer.max_epochs=60", "--trainer.limit_train_batches=5"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGINT, 130)):
        pid = zygote.start(words, cwd=str(tmp_path / "run"))
        said = zygote.said()
        while "epoch " not in zygote.said().removeprefix(said):
            time.sleep(0.02)
        os.kill(pid, number)  # the process of the stage has to hear of it, or to notice
        assert zygote.wait(pid) == [code], zygote.said()
    assert zygote.said().count("Stopped by SIGTERM after step") == 2
    assert zygote.run(words, cwd=str(tmp_path / "run")) == 0, zygote.said()
    assert zygote.run(words, cwd=str(tmp_path / "whole")) == 0, zygote.said()
    assert differences(tmp_path / "whole/r", tmp_path / "run/r") == []
    assert zygote.run([*words[:2], "--trainer.max_epochs=3"], cwd=str(tmp_path / "run")) == 1
    assert "was begun with --trainer.max_epochs=60" in zygote.said()


@pytest.mark.slow
def test_torchrun_starts_a_lost_process_again(zygote: Zygote, words: Commands, tmp_path: Path) -> None:
    command = [word for word in words["population"] if "ckpt_path" not in word]
    command += ["--trainer.strategy=ddp", "--trainer.devices=2"]
    harm = {"at": f"{POPULATION}.training_step", "call": 8, "signal": signal.SIGKILL, "rank": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=2"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    env = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name, harmed in (("whole", {}), ("run", harm)):
        asked = json.dumps({"run": [*command, f"--run={tmp_path / name}"], **harmed})
        script = [*torchrun, str(ROOT / "tests/zygote.py"), asked]
        done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("population", 25), ("meta", 25)])
def test_killed_at_random_moments(
    zygote: Zygote, words: Commands, whole: dict[str, Path], tmp_path: Path, kind: str, kills: int
) -> None:
    """Several runs, each killed again and again until it ends, until there were so many kills."""
    draw, done, number = random.Random(5), 0, 0
    while done < kills:
        number += 1
        command = [*words[kind], f"--run={tmp_path / str(number)}"]
        began = time.monotonic()
        while True:
            pid = zygote.start(command)
            time.sleep(draw.uniform(0.1, 3.0))
            if done < kills and zygote.alive(pid):
                os.kill(pid, signal.SIGKILL)
            if (code := zygote.wait(pid)[0]) == 0:
                break
            assert code == -signal.SIGKILL, zygote.said()
            done += 1
            assert time.monotonic() - began < 500
        assert differences(whole[kind], tmp_path / str(number)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("population", 10), ("meta", 10)])
def test_two_processes_killed_at_random_moments(
    zygote: Zygote, words: Commands, tmp_path: Path, kind: str, kills: int
) -> None:
    assert zygote.wait(*zygote.start_ranks([*words[kind], f"--run={tmp_path / 'whole'}"])) == [0, 0]
    draw, done, number = random.Random(5), 0, 0
    while done < kills:
        number += 1
        command = [*words[kind], f"--run={tmp_path / str(number)}"]
        while True:
            pids = zygote.start_ranks(command)
            time.sleep(draw.uniform(0.1, 5.0))
            for pid in draw.choice([pids, pids[:1], pids[1:]]):
                if done < kills and zygote.alive(pid):
                    os.kill(pid, signal.SIGKILL)
            # One that is killed before they have found each other is missed by its launcher alone.
            codes = zygote.wait(*pids, patience=5)
            if codes == [0, 0]:
                break
            assert -signal.SIGKILL in codes, zygote.said()
            done += 1
        assert differences(tmp_path / "whole", tmp_path / str(number)) == []


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["population", "meta"])
def test_on_a_gpu_too(zygote: Zygote, words: Commands, tmp_path: Path, kind: str) -> None:
    command = [*words[kind], "--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.deterministic=true"]
    env = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    assert zygote.run([*command, f"--run={tmp_path / 'whole'}"], env=env) == 0, zygote.said()
    step = f"{POPULATION if kind == 'population' else META}.training_step"
    for call, number in ((8, signal.SIGKILL), (4, signal.SIGTERM)):
        harm = {"at": step, "call": call, "signal": number, "env": env}
        assert zygote.run([*command, f"--run={tmp_path / 'run'}"], **harm) in (-number, 128 + number)
    assert zygote.run([*command, f"--run={tmp_path / 'run'}"], env=env) == 0, zygote.said()
    assert differences(tmp_path / "whole", tmp_path / "run") == []
