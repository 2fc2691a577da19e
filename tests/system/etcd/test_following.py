"""Servers that stand by follow the leader, and lead with what was acknowledged, whatever happened to them before."""

import re
import signal
import socket
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.support.etcd import Cluster, need_etcd, running_cluster
from tests.support.etcd_server import HOST, EtcdServer
from tests.support.harness import OK
from tests.support.proxy import Proxy
from tests.support.seeds import SEED
from tests.support.waiting import TIMEOUT_S, polling

OPTIONS: Final = ["max_journal_bytes=1048576", "lease_s=4"]
"""So that checkpoints are written soon; and a leader that writes them on a busy machine does not lose the lead."""

LINE: Final = "x" * 2000

VALUES: Final = 150
VALUE_BYTES: Final = 512 << 10
BASE_BYTES: Final = 60 << 20
"""More than a server takes without data."""

_numbers: Final = count()


@pytest.fixture
def namespace() -> str:
    """Return a namespace that no other test uses."""
    return f"following-{next(_numbers)}"


def test_leaders_are_killed_beside_checkpoints_and_nothing_is_lost(single: Cluster, namespace: str) -> None:
    """Each time a standby takes over that has followed, and a new one follows it."""
    acknowledged: dict[str, str] = {}
    random = Random(SEED)
    with ExitStack() as stack:
        leading = stack.enter_context(EtcdServer(single, namespace, options=OPTIONS))
        assert leading.leads()
        for _ in range(3):
            standing = stack.enter_context(EtcdServer(single, namespace, options=OPTIONS))
            assert standing.wait_for("following")["keys"] == len(acknowledged)
            with closing(leading.connect()) as client:
                enough = len(leading.events("checkpoint_written")) + random.randrange(1, 4)
                while len(leading.events("checkpoint_written")) < enough:
                    lines = {f"key{random.randrange(500)}": f"{random.random()}-{LINE}" for _ in range(40)}
                    client.ok(*(f"PUT {key} {value}" for key, value in lines.items()))
                    acknowledged |= lines
            leading.kill()
            assert standing.leads()
            assert standing.wait_for("leading")["keys"] == len(acknowledged)
            with closing(standing.connect()) as client:
                for key, value in acknowledged.items():
                    assert client.get(key) == value
            leading = standing


def test_who_was_away_while_the_journal_was_cut_reads_the_checkpoint_again(single: Cluster, namespace: str) -> None:
    """And then leads with all of it."""
    with ExitStack() as stack:
        leading, standing = (stack.enter_context(EtcdServer(single, namespace, options=OPTIONS)) for _ in range(2))
        if not leading.wait_for_any(("leading", "standby")) or not leading.events("leading"):
            leading, standing = standing, leading
        assert leading.leads()
        standing.wait_for("following")
        with closing(leading.connect()) as client:
            client.ok("PUT before 1")
            standing.send_signal(signal.SIGSTOP)
            client.ok("DEL before")
            number = 0
            while len(leading.events("checkpoint_written")) < 3:
                client.ok(*(f"PUT key{number + at} {LINE}" for at in range(20)))
                number += 20
            standing.send_signal(signal.SIGCONT)
            standing.wait_for("replica_discarded")
            client.ok("PUT after 1")
        leading.kill()
        assert standing.leads()
        with closing(standing.connect()) as client:
            assert client.ask("COUNT")["result"] == number + 1
            assert (client.get("before"), client.get("after")) == (None, "1")


def test_who_is_led_to_another_cluster_forgets_what_it_had(single: Cluster, namespace: str) -> None:
    """It joins that one as if it had just been started."""
    need_etcd()
    with running_cluster() as other, ExitStack() as stack:
        proxy = Proxy(single.members[0].client_port)
        stack.callback(proxy.close)
        leading = stack.enter_context(EtcdServer(single, namespace))
        assert leading.leads()
        with closing(leading.connect()) as client:
            client.ok("PUT key old")
        standing = stack.enter_context(EtcdServer(single, namespace, endpoints=f"{HOST}:{proxy.port}"))
        standing.wait_for("following", keys=1)
        with EtcdServer(other, namespace) as there:
            assert there.leads()
            with closing(there.connect()) as client:
                client.ok("PUT other new")
        proxy.target_port = other.members[0].client_port
        proxy.cut()
        assert standing.leads()
        with closing(standing.connect()) as client:
            assert (client.get("key"), client.get("other")) == (None, "new")
            assert client.ask("PUT other newer") == OK


def test_who_stands_by_stops_at_once_and_while_etcd_is_away(single: Cluster, namespace: str) -> None:
    """Its threads end with it."""
    with ExitStack() as stack:
        leading = stack.enter_context(EtcdServer(single, namespace))
        assert leading.leads()
        standing, waiting = (stack.enter_context(EtcdServer(single, namespace)) for _ in range(2))
        for each in (standing, waiting):
            each.wait_for("following")
        assert standing.stop() == 0
        single.members[0].pause()
        try:
            waiting.wait_for("etcd_unavailable")
            assert waiting.stop() == 0
        finally:
            single.members[0].resume()


def test_a_server_that_starts_while_etcd_is_away_says_so_once(single: Cluster, namespace: str) -> None:
    """For each kind of reason, though it tries again and again, and each time another member turns it away."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(2)]
        ports = [listener.getsockname()[1] for listener in listeners]
        members = ",".join(f"{HOST}:{port}" for port in ports)
        server = stack.enter_context(EtcdServer(single, namespace, endpoints=members))
        for _ in range(3):
            for listener in listeners:
                listener.settimeout(TIMEOUT_S)
                listener.accept()[0].close()
        assert server.stop() == 0
        reasons = [event["reason"] for event in server.events("etcd_unavailable")]
    kinds = [re.sub(rf"{HOST}:\d+", "", reason) for reason in reasons]
    assert kinds
    assert sorted(kinds) == sorted({*kinds})


def test_relays_go_on_beside_a_standby_that_follows(single: Cluster, namespace: str) -> None:
    """Clients write through it what it applies itself."""
    with ExitStack() as stack:
        leading = stack.enter_context(EtcdServer(single, namespace))
        assert leading.leads()
        standing = stack.enter_context(EtcdServer(single, namespace))
        standing.stands_by()
        with closing(standing.connect()) as client:
            for number in range(100):
                client.ok(*(f"PUT key{number}-{at} {at}" for at in range(50)))
        leading.kill()
        assert standing.leads()
        with closing(standing.connect()) as client:
            for _ in polling("it answers"):
                if client.ask("COUNT")["result"] == 5000:
                    break


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is found in /proc")
def test_what_a_server_had_when_it_led_is_forgotten(single: Cluster, namespace: str) -> None:
    """When it has lost the lead and stands by again: it has the data once."""
    value = "x" * VALUE_BYTES
    with ExitStack() as stack:
        leading = stack.enter_context(EtcdServer(single, namespace))
        assert leading.leads()
        with closing(leading.connect()) as client:
            for number in range(VALUES):
                client.ok(f"PUT key{number} {value}")
        standing = stack.enter_context(EtcdServer(single, namespace))
        standing.wait_for("following", keys=VALUES)
        for turn in range(2):
            leading.send_signal(signal.SIGSTOP)
            standing.wait_for("listening", turn + 1)
            leading.send_signal(signal.SIGCONT)
            leading.wait_for("following", turn + 1, keys=VALUES)
            for _ in polling("it has forgotten"):
                if resident_bytes(leading) < BASE_BYTES + 3 * VALUES * VALUE_BYTES // 2:
                    break
            leading, standing = standing, leading


def resident_bytes(server: EtcdServer) -> int:
    """Return the resident memory of a server."""
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10
