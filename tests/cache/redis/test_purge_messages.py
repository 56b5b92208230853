"""Messages on the channel of purges: read within bounds, and coalesced."""

import orjson
import pytest

from imgserver.cache.redis.purge_messages import (
    MAX_MESSAGE_BYTES,
    MESSAGE_TOKENS,
    TOKENS_BURST,
    TOKENS_PER_SECOND,
    PurgeMessages,
    serialize,
)


class Receiver:
    """Records what is passed on, with a clock that tests advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.passed: list[object] = []
        self.messages = PurgeMessages(self.passed.append, lambda: self.passed.append("gap"), clock=lambda: self.now)

    def add(self, *messages: object) -> None:
        for message in messages:
            self.messages.add(message)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def tokens(count: int, *, start: int = 0) -> dict[str, str]:
    return {f"s{number:016x}": f"{number:016x}" for number in range(start, start + count)}


def test_the_messages_of_a_batch_are_passed_on_as_one(receiver):
    receiver.add(b'{"a": "1"}', b'{"s0": "2"}', b'{"a": "3"}')

    assert receiver.passed == []
    receiver.messages.flush()
    receiver.messages.flush()
    assert receiver.passed == [{"a": "3", "s0": "2"}]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff{",
        b"null",
        b"[]",
        b'"a"',
        b'{"a": 1}',
        b'{"a": null}',
        b'{"A": "1"}',
        b'{"a/b": "1"}',
        b'{"a": "' + b"0" * 65 + b'"}',
        b'{"a": "\\n"}',
        b'{"s00000000000000000": "1"}',
        b'{"a": "1"' + b" " * MAX_MESSAGE_BYTES + b"}",
        orjson.dumps(tokens(MESSAGE_TOKENS + 1)),
        b"[" * 100_000,
        None,
        7,
    ],
    ids=lambda message: repr(message)[:40],
)
def test_a_message_that_no_server_publishes_is_a_gap(receiver, message):
    receiver.add(message)
    receiver.messages.flush()

    assert receiver.passed == ["gap"]


def test_many_unusable_messages_are_one_gap_and_lose_no_purge_before_them(receiver):
    receiver.add(b'{"a": "1"}', *[b"garbage"] * 1000, b'{"s0": "2"}')
    receiver.messages.flush()

    assert receiver.passed == [{"a": "1"}, "gap"]


def test_more_tokens_than_the_rate_are_a_gap_until_time_has_passed(receiver):
    for start in range(0, TOKENS_BURST, MESSAGE_TOKENS):
        receiver.add(*serialize(tokens(MESSAGE_TOKENS, start=start)))
    receiver.messages.flush()
    receiver.add(b'{"a": "1"}')
    receiver.messages.flush()
    receiver.now += 2 / TOKENS_PER_SECOND
    receiver.add(b'{"a": "2"}')
    receiver.messages.flush()

    assert receiver.passed == [tokens(TOKENS_BURST), "gap", {"a": "2"}]


@pytest.mark.parametrize("count", [0, 1, MESSAGE_TOKENS, MESSAGE_TOKENS + 1, TOKENS_BURST])
def test_every_server_can_read_what_a_server_publishes(receiver, count):
    published = serialize(tokens(count))
    receiver.add(*published)
    receiver.messages.flush()

    assert receiver.passed == ([tokens(count)] if count else [])
    assert all(len(message) <= MAX_MESSAGE_BYTES for message in published)
