"""Which connection loses its place for a new one. With connections that only record it."""

from dataclasses import dataclass

from imgserver.settings.schema import ServerSettings
from imgserver.web.open_connections import OpenConnections


@dataclass(eq=False)
class FakeConnection:
    name: str
    client: str = "192.0.2.1"
    idle_since: float = 0.0
    is_working: bool = False
    is_evicted: bool = False

    def drain(self) -> None:
        pass

    def evict(self) -> None:
        self.is_evicted = True


def full(*names: str, limit: int = 0, **more: object) -> tuple[OpenConnections, list[FakeConnection]]:
    """`alice1` is a connection of the client `alice`. They become idle one after the other."""
    connections = OpenConnections(ServerSettings(max_connections=limit or len(names)), **more)
    made = [FakeConnection(name, client=name[:-1], idle_since=float(at)) for at, name in enumerate(names)]
    for connection in made:
        assert connections.add(connection)
    return connections, made


def evicted(made: list[FakeConnection]) -> list[str]:
    return [connection.name for connection in made if connection.is_evicted]


def test_the_longest_idle_connection_makes_place():
    connections, made = full("alice1", "alice2", "alice3")

    assert connections.add(FakeConnection("alice4"))
    assert evicted(made) == ["alice1"]
    assert (len(connections), connections.shed) == (3, {"idle": 1, "new": 0})


def test_the_client_with_most_idle_connections_loses_first():
    connections, made = full("alice1", "mallory1", "mallory2", "bob1", "mallory3")
    for number in (4, 5):
        connections.add(FakeConnection(f"mallory{number}", client="mallory", idle_since=9.0))

    assert evicted(made) == ["mallory1", "mallory2"]


def test_a_connection_that_was_active_meanwhile_is_not_the_longest_idle_one():
    connections, made = full("alice1", "alice2", "alice3")
    made[0].idle_since = 10.0  # as after a request on the fast path
    connections.add(FakeConnection("alice4", client="alice", idle_since=11.0))

    assert evicted(made) == ["alice2"]


def test_connections_with_a_request_in_progress_keep_their_place():
    connections, made = full("alice1", "alice2")
    connections.note_busy(made[0])

    assert connections.add(FakeConnection("bob1", client="bob"))
    assert evicted(made) == ["alice2"]


def test_a_new_connection_is_refused_when_no_connection_is_idle():
    connections, made = full("alice1", "alice2")
    for connection in made:
        connections.note_busy(connection)

    assert not connections.add(FakeConnection("bob1", client="bob"))
    assert evicted(made) == []
    assert connections.shed == {"idle": 0, "new": 1}


def test_a_response_that_ends_makes_its_connection_idle_again():
    connections, made = full("alice1", "alice2")
    connections.note_busy(made[0])
    made[0].idle_since = 5.0
    connections.note_idle(made[0])
    connections.add(FakeConnection("alice3", client="alice", idle_since=6.0))
    connections.add(FakeConnection("alice4", client="alice", idle_since=7.0))

    assert evicted(made) == ["alice1", "alice2"]


def test_a_lost_connection_leaves_nothing_behind():
    connections, made = full("alice1", "bob1")
    for connection in made:
        connections.remove(connection)
        connections.note_idle(connection)

    assert repr(connections) == "<OpenConnections 0/2, 0 idle, shed {'idle': 0, 'new': 0}>"


def test_there_is_one_warning_a_minute_with_the_counts_since_the_last_one():
    now, warnings = [0.0], []
    connections, _ = full("alice1", clock=lambda: now[0], warn=lambda *counts: warnings.append(counts))
    for second in range(130):
        now[0] = float(second)
        connections.add(FakeConnection("alice2", client="alice", idle_since=second + 1.0))

    assert warnings == [(1, 0), (60, 0), (60, 0)]


def test_connections_leave_a_quarter_of_the_free_descriptors_to_the_rest_of_the_server():
    connections = OpenConnections(ServerSettings(max_connections=2048))
    connections.limit_to_descriptors(1000)
    assert connections.limit == 750
    connections.limit_to_descriptors(100_000)
    assert connections.limit == 750
