"""What every test stands on: a fixed seed, no network, no display, and nothing left behind."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from dynamo.cli import main

ROOT = Path(__file__).resolve().parents[1]
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LOOPBACK = {"127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None, socket.gethostname()}
# Lightning, torch and OpenMP write these by themselves, and so does every test that builds a Trainer; they are
# put back, and are no fault of the test.
THEIRS = (
    "PYTEST_", "PL_", "MASTER_", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "GLOBAL_RANK", "GROUP_RANK", "RANK",
    "CUBLAS_", "KMP_", "OMP_", "CUDA_MODULE_LOADING", "TORCH", "PYTORCH_NVML_", "TRITON_", "TF_CPP_", "COLUMNS",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Keep two test processes on one laptop from fighting for its cores, and its GPU out of sight.

    `accelerator: auto` would take one, and every test would find another thing on another machine. Tests that are
    about a GPU run by themselves: `make test-gpu`.
    """
    torch.set_num_threads(THREADS)
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.addaudithook(_no_network)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked `gpu` where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: make test-gpu, on a machine that has one")


def _no_network(event: str, args: tuple[Any, ...]) -> None:
    """Raise at the first attempt to look up or reach another machine; an audit hook sees every socket."""
    if event == "socket.connect" and args[0].family in (socket.AF_INET, socket.AF_INET6):
        host = args[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0].decode() if isinstance(args[0], bytes) else args[0]
    else:
        return
    if host not in LOOPBACK:
        pytest.fail(f"A test tried to reach the network ({host}); tests work with what is on this machine.")


def _state() -> dict[str, Any]:
    """Everything global that a test could change for the tests after it."""
    return {
        "the working directory": Path.cwd(),
        "the environment": {k: v for k, v in os.environ.items() if not k.startswith(THEIRS)},
        "the list of open figures": plt.get_fignums(),
        "the process group": distributed.is_available() and distributed.is_initialized(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "the signal handlers": {s: signal.getsignal(s) for s in SIGNALS},
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line for everything that is not as it was; of the environment, the names alone."""
    old, new = before.pop("the environment"), after.pop("the environment")
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    lines = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    return lines + [f"the environment: {', '.join(names)}"] * bool(names)


def _restore(state: dict[str, Any], environment: dict[str, str]) -> None:
    """Put back what can be put back, so that one leak fails one test and not the rest of the suite."""
    os.chdir(state["the working directory"])
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    for number in set(plt.get_fignums()) - set(state["the list of open figures"]):
        plt.close(number)
    if distributed.is_available() and distributed.is_initialized() and not state["the process group"]:
        distributed.destroy_process_group()
    torch.set_default_dtype(state["torch's default dtype"])
    torch.set_num_threads(state["torch's number of threads"])
    _set_deterministic(state["torch's deterministic mode"])
    torch.set_grad_enabled(state["torch's gradient mode"])
    torch.set_float32_matmul_precision(state["torch's matmul precision"])
    for number, handler in state["the signal handlers"].items():
        signal.signal(number, handler)


def _set_deterministic(mode: bool) -> None:
    if torch.are_deterministic_algorithms_enabled() != mode:  # the setter imports the compiler: seconds
        torch.use_deterministic_algorithms(mode)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail the test that changed something global, and name what it was."""
    before, environment = _state(), dict(os.environ)
    yield
    after = _state()
    _restore(before, environment)
    if changes := _changes(before, after):
        pytest.fail("The test left something changed:\n  " + "\n  ".join(changes), pytrace=False)


@pytest.fixture(autouse=True)
def _same_start(_leaves_nothing_behind: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts from the same random state and an empty command line, whatever ran before it."""
    monkeypatch.setattr(sys, "argv", ["dynamo"])  # LightningCLI warns where it sees pytest's arguments
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - scikit-learn and torchvision still draw from the old generator
    torch.manual_seed(0)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """For tests that build `Trainer(deterministic=True)`, which sets the mode and leaves it on."""
    mode = torch.are_deterministic_algorithms_enabled()
    yield
    _set_deterministic(mode)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data that `DYNAMO_DATA` names; without it the test is skipped."""
    folder = os.environ.get("DYNAMO_DATA")
    if not folder:
        pytest.skip("DYNAMO_DATA is not set: this test reads the publishers' own files")
    if not Path(folder).is_dir():
        pytest.skip(f"DYNAMO_DATA names {folder}, and there is no such folder")
    return Path(folder)


# Every name but this machine's is unknown: a page that asks for the outside fails, and the console says so. Without the
# rest the browser asks for its maker's hosts when it starts.
BROWSER = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--disable-quic",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars", "--window-size=1400,1000",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium, driven by selenium; the test is skipped where either is missing.

    `browser.get_log("browser")` tells what its console has complained of since the last call.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs Chromium and its driver (on Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (*BROWSER, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    quiet = {**os.environ, "NO_PROXY": "127.0.0.1,localhost"}
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver, env=quiet))
    yield chrome
    chrome.quit()


PATIENCE = 120  # seconds; what takes longer waits for a process that does something else


def _one_of_several(
    rank: int, world: int, port: int, place: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """What a forked process does: stand where a launcher would have put it, run, and keep what came out."""
    waits = (place / f"{rank}.waits").open("w", encoding="utf-8")
    faulthandler.register(signal.SIGUSR2, waits)  # asked by the one that waits for it
    torch.set_num_threads(1)  # the threads of the process that was forked are not here
    if world > 1:
        where = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in where.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
        rank_zero_only.rank = rank  # Lightning read it from the environment when it was imported
    try:
        torch.save(function(*arguments), place / f"{rank}.pt")
    except BaseException:  # noqa: BLE001 - whatever it is, the test has to hear of it
        (place / f"{rank}.txt").write_text(f"process {rank} of {world}:\n{traceback.format_exc()}", encoding="utf-8")
        os._exit(1)


@pytest.fixture(scope="session")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """`in_processes(3, function, *arguments)` runs it in 3 processes at once and gives their answers, rank by rank.

    They are forked, so that nothing is imported anew, and find themselves where a launcher would have put them: a
    `Trainer(strategy="ddp", devices=3)` in them joins the others. Answers are tensors, numbers, strings, and plain
    containers of these. One that fails, or waits for ever, fails the test with what each of them has to say.
    """

    def run(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:  # noqa: ANN401
        place, fork = tmp_path_factory.mktemp("answers"), multiprocessing.get_context("fork")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ranks = [
            fork.Process(target=_one_of_several, args=(rank, world, port, place, function, arguments))
            for rank in range(world)
        ]
        for one in ranks:
            one.start()
        end = time.monotonic() + PATIENCE
        while any(one.is_alive() for one in ranks) and time.monotonic() < end:
            time.sleep(0.02)
            if any(one.exitcode for one in ranks):  # the others notice that it is gone, or never will
                end = min(end, time.monotonic() + 10)
        waiting = [str(rank) for rank, one in enumerate(ranks) if one.is_alive()]
        for one in ranks:
            if one.is_alive() and one.pid:
                os.kill(one.pid, signal.SIGUSR2)
                time.sleep(0.5)
            one.kill()
            one.join()
        files = [file for file in sorted(place.iterdir()) if file.suffix in (".txt", ".waits")]
        told = [text for text in (file.read_text(encoding="utf-8") for file in files) if text]
        if told or waiting or any(one.exitcode for one in ranks):
            codes = [one.exitcode for one in ranks]
            pytest.fail("\n".join([*told, f"still waiting: {', '.join(waiting) or 'none'}; exit codes {codes}"]), False)
        return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(world)]

    return run


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What follows `dynamo fit` for a population and for a meta-model on it, made small; they lack only `--run`."""
    place = tmp_path_factory.mktemp("runs")
    configs = {kind: ["-c", str(ROOT / f"configs/{kind}/demo.yaml")] for kind in ("population", "meta")}
    tiny = ["-c", str(ROOT / "configs/debug/tiny.yaml")]
    population = f"--model.init_args.population={place}/population/population"
    return {
        "population": [*configs["population"], *tiny],
        "meta": [*configs["meta"], *tiny, population],
        "place": [str(place)],
    }


@pytest.fixture(scope="session")
def trained(commands: dict[str, list[str]]) -> Path:
    """The runs `population` and `meta`, trained and tested by the real command; to read, or to copy."""
    place = Path(commands["place"][0])
    for kind in ("population", "meta"):
        main(["fit", *commands[kind], "--run", str(place / kind)])
        main(["test", *commands[kind], "--run", str(place / kind)])
    return place


class Zygote:
    """Starts commands in processes of their own within a tenth of a second; see zygote.py."""

    def __init__(self, place: Path) -> None:
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.out = place / "out"

    def start(self, words: Sequence[str], **harm: Any) -> int:  # noqa: ANN401
        """Start `dynamo WORDS`, which may come to harm on its way; its process id."""
        return self._ask({"run": list(words), "out": str(self.out), **harm})

    def wait(self, *pids: int, patience: float = 20.0) -> list[int]:
        """The exit codes; once one process is gone, the others have so many seconds before they are killed."""
        gone: float | None = None
        while any(map(self.alive, pids)):
            if gone is None and not all(map(self.alive, pids)):
                gone = time.monotonic()
            if gone is not None and time.monotonic() - gone > patience:
                for pid in filter(self.alive, pids):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return [self._ask({"wait": pid}) for pid in pids]

    def run(self, words: Sequence[str], **harm: Any) -> int:  # noqa: ANN401
        """Start one command and wait for its end: the exit code."""
        return self.wait(self.start(words, **harm))[0]

    def start_ranks(self, words: Sequence[str], world: int = 2, harmed: int = 1, **harm: Any) -> list[int]:  # noqa: ANN401
        """Start a command in several processes under DDP; the one of rank `harmed` may come to harm."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "NODE_RANK": "0"}
        words = [*words, "--trainer.strategy=ddp", f"--trainer.devices={world}"]
        return [
            self.start(words, env={**env, "LOCAL_RANK": str(rank)}, **(harm if rank == harmed else {}))
            for rank in range(world)
        ]

    def said(self) -> str:
        """What the processes have said so far."""
        return self.out.read_text(encoding="utf-8") if self.out.exists() else ""

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether a process still runs."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"

    def close(self) -> None:
        """Let the one that forks end."""
        self._process.communicate(timeout=30)

    def _ask(self, what: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture(scope="session")
def _zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture
def zygote(_zygote: Zygote, tmp_path: Path) -> Zygote:
    """Commands in processes of their own, at once; what they say is this test's own."""
    _zygote.out = tmp_path / "out"
    return _zygote


BrokenCopies = Callable[[bytes, int], Iterator[bytes]]
InChild = Callable[..., str]
EXTREMES = tuple(
    value.to_bytes(size, "little")
    for size in (2, 4, 8)
    for value in (0, 1, (1 << 8 * size - 1) - 1, (1 << 8 * size) - 1)
)


@pytest.fixture(scope="session")
def broken_copies() -> BrokenCopies:
    """So many broken copies of a file: cut short, bits flipped, parts overwritten, left out or repeated."""

    def copies(content: bytes, count: int) -> Iterator[bytes]:
        rng = random.Random(len(content))
        for number in range(count):
            place, length = rng.randrange(len(content)), min(1 << rng.randrange(10), len(content))
            copy = bytearray(content)
            match number % 6:
                case 0:
                    del copy[place:]
                case 1:
                    copy[place] ^= 1 << rng.randrange(8)
                case 2:
                    for _ in range(length):
                        copy[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
                case 3:
                    extreme = rng.choice(EXTREMES)
                    copy[place : place + len(extreme)] = extreme
                case 4:
                    del copy[place : place + length]
                case 5:
                    copy[place:place] = rng.choice((content[place : place + length], rng.randbytes(length)))
            yield bytes(copy)

    return copies


@pytest.fixture(scope="session")
def in_child() -> InChild:
    """What comes of a call in a process of its own: "returned", or the name of the error's type and its message.

    `folder` becomes its working directory. It may take `memory` more bytes and `seconds`. With `locked` it has no
    rights of the superuser, whoever runs the tests, so that a mode of 0 means what it says.
    """

    def run(
        call: Callable[[], object], folder: Path, memory: int | None = None, locked: bool = False, seconds: int = 20
    ) -> str:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                signal.alarm(seconds)  # its default: the end
                os.chdir(folder)
                if memory is not None:
                    pages = int(Path("/proc/self/statm").read_text().split()[0])
                    room = pages * os.sysconf("SC_PAGE_SIZE") + memory
                    resource.setrlimit(resource.RLIMIT_AS, (room, room))
                if locked and os.geteuid() == 0:
                    folder.chmod(0o755)
                    os.setuid(65534)
                call()
                said = "returned"
            except BaseException as error:  # noqa: BLE001 - the parent judges it
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said[:4000].encode(errors="replace"))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return said or f"it took more than {seconds} seconds, or died"

    return run
