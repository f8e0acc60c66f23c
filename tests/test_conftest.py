"""Do the guards of conftest.py catch what they are there for?"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

LEAKS = {
    "the environment: DYNAMO_LEAK": "import os; os.environ['DYNAMO_LEAK'] = '1'",
    "the list of open figures": "from matplotlib import pyplot; pyplot.figure()",
    "the process group": (
        "import torch.distributed as d; d.init_process_group('gloo', store=d.HashStore(), rank=0, world_size=1)"
    ),
    "torch's default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "torch's number of threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch's deterministic mode": "import torch; torch.use_deterministic_algorithms(True)",
    "torch's gradient mode": "import torch; torch.set_grad_enabled(False)",
    "the working directory": "import os; os.chdir('/')",
    "the signal handlers": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}


@pytest.mark.parametrize(("leak", "code"), LEAKS.items(), ids=LEAKS)
def test_a_leak_is_named_and_put_back(leak: str, code: str, pytestconfig: pytest.Config) -> None:
    guard = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    before, environment = guard._state(), dict(os.environ)
    exec(code, {})
    after = guard._state()
    guard._restore(before, environment)  # the guard around this very test fails where this does not
    (line,) = guard._changes(before, after)
    assert line.startswith(leak)


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org"])
def test_the_network_is_out_of_reach(host: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="tried to reach the network"):
        socket.create_connection((host, 80), timeout=1)


def test_this_machine_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
