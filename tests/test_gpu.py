"""The whole way on a GPU: networks, their map, every analysis of it and the report, beside a CPU's numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamo.cli import main
from dynamo.runs import RunFolder

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[1]
PLANE = ("--size", "2", "--search_size", "2", "--rounds", "1", "--candidates", "2")
# In this order: some read what others left behind. Beside the options how close two devices come; None: not compared.
KINDS = {
    "embedding": (("--permutations", "20"), 1e-4),
    "similarity": (("--items", "40", "--blocks", "4", "--replicates", "20", "--permutations", "50"), 1e-2),
    "averaging": (("--steps", "3"), 1e-2),
    "accuracy_map": (PLANE, 1e-2),
    "semi_supervised": (("--counts", "[10, 20]", "--draws", "2", "--steps", "5", "--scratch_steps", "5"), None),
    "embed": (("--steps", "3"), None),
    "fixed_points": (("--seeds", "6", "--items", "4"), None),
    "word_scores": (("--size", "2", "--seeds", "4", "--items", "4", "--lexicon_size", "10"), None),
}
WORDS_ONLY = ("fixed_points", "word_scores")


def close(mine: Any, other: Any, share: float, where: str = "") -> None:  # noqa: ANN401
    """Two results are of one form, and their numbers alike."""
    if isinstance(mine, dict):
        assert mine.keys() == other.keys(), where
        for key in mine:
            close(mine[key], other[key], share, f"{where}.{key}")
    elif isinstance(mine, list):
        assert len(mine) == len(other), where
        for number, pair in enumerate(zip(mine, other, strict=True)):
            close(*pair, share, f"{where}[{number}]")
    elif isinstance(mine, float):
        assert mine == pytest.approx(other, rel=share, abs=share), where
    elif not isinstance(mine, str):
        assert mine == other, where


@pytest.fixture(scope="module", params=["demo", "demo_images"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and their map, trained and tested on the GPU that `accelerator: auto` finds."""
    place: Path = tmp_path_factory.mktemp(request.param)
    own = {"meta": [f"--model.init_args.population={place}/population/population"], "population": []}
    for kind in ("population", "meta"):
        configs = [str(ROOT / f"configs/{kind}/{request.param}.yaml"), str(ROOT / "configs/debug/tiny.yaml")]
        words = [word for config in configs for word in ("-c", config)]
        words += [f"--run={place / kind}", "--trainer.accelerator=auto", "--trainer.devices=1", *own[kind]]
        torch.cuda.reset_peak_memory_stats()
        main(["fit", *words])
        main(["test", *words])
        assert torch.cuda.max_memory_allocated() > 0
    return place


def test_every_analysis_finds_what_a_cpu_finds(runs: Path, tmp_path: Path) -> None:
    for device in ("cuda", "cpu"):
        shutil.copytree(runs / "meta", tmp_path / device)
    for kind, (options, share) in KINDS.items():
        if kind in WORDS_ONLY and runs.name.startswith("demo_images"):
            continue
        if kind == "embed":
            options += ("--population", str(runs / "population/population"))
        found = []
        for device in ("cuda", "cpu"):
            main(["analyze", kind, "--run", str(tmp_path / device), "--device", device, *options])
            found.append(RunFolder(tmp_path / device).read_result(kind))
        if share is not None:
            close(*found, share, kind)
    main(["report", str(tmp_path / "cuda")])
    assert (tmp_path / "cuda/report.html").stat().st_size > 100_000


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_it_trains_at_either_precision(runs: Path, tmp_path: Path, precision: str) -> None:
    name = "demo_images" if runs.name.startswith("demo_images") else "demo"
    for kind in ("population", "meta"):
        words = ["-c", str(ROOT / f"configs/{kind}/{name}.yaml"), "-c", str(ROOT / "configs/debug/tiny.yaml")]
        words += ["-c", str(ROOT / "configs/hardware/gpu.yaml"), f"--trainer.precision={precision}"]
        words.append("--trainer.enable_model_summary=false")  # Lightning's cannot count at bf16, and says so
        if kind == "meta":
            words.append(f"--model.init_args.population={tmp_path}/population/population")
        main(["fit", *words, f"--run={tmp_path / kind}"])
        assert RunFolder(tmp_path / kind).done("fit")


@pytest.mark.parametrize("options", [{}, {"alignment": "mlp"}, {"members_per_step": 5}])
def test_alignments_and_draws(runs: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    words = ["-c", str(runs / "meta/config.yaml"), f"--run={tmp_path / 'run'}"]
    main(["fit", *words, *(f"--model.init_args.{key}={value}" for key, value in options.items())])
    assert RunFolder(tmp_path / "run").done("fit")
