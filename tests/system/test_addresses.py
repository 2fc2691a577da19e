"""Where the server listens: addresses as people write them, names with several, and one address by several names.

What takes a network of one's own runs in a namespace, made by ``unshare``, which is root's to do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.harness import PONG, TIMEOUT_S, Server

from .conftest import StartServer

pytestmark = pytest.mark.one_build

HOSTS = """
127.0.0.1 one
127.0.0.1 same
127.0.0.1 several
127.0.0.2 several
::1 several
::1 only-six
"""

RUN = """
import json, signal, subprocess, sys

kvs = [sys.executable, "-m", "kvs"]
command = [*kvs, "--port", "0", "--log-format", "json", "--protected-mode", "false", *sys.argv[1:]]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
listening = []
for line in server.stderr:
    if not line.startswith("{"):
        sys.exit(line)
    event = json.loads(line)
    if event["event"] == "listening":
        listening.append(event["host"])
        port = str(event["port"])
    elif event["event"] == "client_disconnected":
        break
    if len(listening) == 1 and event["event"] == "listening":
        loading = subprocess.Popen([*kvs, "load", "--host", sys.argv[2], "--port", port], stdin=subprocess.PIPE)
        loading.communicate(b'{"key": "a", "value": "1"}')
        if loading.returncode:
            server.kill()
            sys.exit("the load has failed")
server.send_signal(signal.SIGTERM)
server.communicate()
print(json.dumps([server.returncode, listening]))
"""


@pytest.fixture(scope="session")
def transport_flags() -> tuple[str, ...]:
    """Return no flags: no transport has a say in this."""
    return ()


@pytest.fixture
def run_in_namespace(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a server in a network of its own, with names of its own, and loads into the first host."""
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    (tmp_path / "run.py").write_text(RUN)

    def run(*arguments: str, before: str = "true") -> subprocess.CompletedProcess[str]:
        script = f'mount --bind {hosts} /etc/hosts && ip link set lo up && {before} && exec "$@"'
        command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    try:
        reason = run("true").stderr.strip()
    except OSError as error:
        reason = str(error)
    if reason and os.environ.get("TEST_STRACE") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(f"no namespace can be had here: {reason}")

    def serve(*hosts: str, before: str = "true") -> subprocess.CompletedProcess[str]:
        flags = [word for host in hosts for word in ("--host", host)]
        return run(sys.executable, str(tmp_path / "run.py"), *flags, before=before)

    return serve


# The kernel adds the route to an address later than the address, which by then can be listened on.
ADDRESS = (
    "ip -6 addr add fe80::1234/64 dev lo nodad"
    " && until ip -6 route get fe80::1234 oif lo >/dev/null 2>&1; do sleep 0.01; done"
)
NO_SIX = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"


@pytest.mark.parametrize(
    ("hosts", "before", "listening"),
    [
        (["fe80::1234%lo"], ADDRESS, ["fe80::1234%lo"]),
        (["[fe80::1234%lo]", "fe80::1234%lo", "127.0.0.1"], ADDRESS, ["fe80::1234%lo", "127.0.0.1"]),
        (["one", "same", "127.0.0.1"], "true", ["127.0.0.1"]),
        (["several", "one", "127.0.0.2"], "true", {"127.0.0.1", "127.0.0.2", "::1"}),
        (["several", "one"], NO_SIX, ["127.0.0.1", "127.0.0.2"]),
    ],
)
def test_addresses_and_names(
    run_in_namespace: Callable[..., subprocess.CompletedProcess[str]],
    hosts: list[str],
    before: str,
    listening: list[str] | set[str],
) -> None:
    """Each address once; scopes are kept; what a name has and this machine has not is left out; commands likewise."""
    ran = run_in_namespace(*hosts, before=before)
    assert ran.stdout, ran.stderr
    code, listened = json.loads(ran.stdout)
    assert code == 0
    assert len(listened) == len(set(listened))
    assert type(listening)(listened) == listening


@pytest.mark.parametrize(("hosts", "named"), [(["only-six"], "[::1]"), (["several", "::1"], "[::1]")])
def test_an_address_that_is_not_here_is_refused(
    run_in_namespace: Callable[..., subprocess.CompletedProcess[str]], hosts: list[str], named: str
) -> None:
    """Where there is no other of that name, or it was given as such."""
    ran = run_in_namespace(*hosts, before=NO_SIX)
    assert f"cannot listen on {named}" in ran.stderr


@pytest.mark.parametrize(
    "hosts",
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("localhost", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")],
)
def test_one_address_by_several_names(start_server: StartServer, hosts: tuple[str, str]) -> None:
    """It is listened on once."""
    server = start_server("--host", hosts[0], "--host", hosts[1], "--protected-mode", "false")
    assert server.connect(host="127.0.0.1").ask("PING") == PONG
    listened = [event["host"] for event in server.events("listening")]
    assert len(listened) == len(set(listened))


def test_brackets(ipv6_loopback: str) -> None:
    """An IPv6 address may have them, as in a URL."""
    with Server("--host", f"[{ipv6_loopback}]") as server:
        assert server.host == ipv6_loopback
        assert server.connect().ask("PING") == PONG
