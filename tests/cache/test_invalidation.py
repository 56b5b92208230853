import dataclasses

import pytest

from imgserver.cache import invalidation as module
from imgserver.cache.cache_tags import ALL
from imgserver.cache.invalidation import COPY_SECONDS, PurgeMarks

GROUPS = (ALL, "d1", "s1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class FakeBoard:
    """Shared marks that can be away."""

    tokens: dict = dataclasses.field(default_factory=dict)
    away: bool = False
    fetches: int = 0

    async def fetch(self, groups):
        self.fetches += 1
        return None if self.away else {group: self.tokens.get(group, "") for group in groups}

    async def post(self, tokens):
        if not self.away:
            self.tokens |= tokens
        return not self.away


@pytest.fixture
def board():
    return FakeBoard()


async def test_what_was_never_purged_has_no_token_and_is_current():
    marks = PurgeMarks()
    noted = await marks.note(GROUPS)

    assert noted == tuple((group, "") for group in GROUPS)
    assert marks.are_current(noted)


@pytest.mark.parametrize("group", GROUPS)
async def test_a_purge_of_any_group_voids_what_was_noted_before_and_not_after(group):
    marks = PurgeMarks()
    before = await marks.note(GROUPS)
    others = await marks.note(("x1",))
    await marks.renew([group])
    after = await marks.note(GROUPS)

    assert not marks.are_current(before)
    assert marks.are_current(after)
    assert marks.are_current(others)


async def test_a_second_purge_voids_what_came_after_the_first():
    marks = PurgeMarks()
    await marks.renew(["s1"])
    noted = await marks.note(GROUPS)
    await marks.renew(["s1"])

    assert not marks.are_current(noted)


async def test_marks_survive_a_restart(tmp_path):
    first = PurgeMarks(path=tmp_path / "marks.json")
    before = await first.note(GROUPS)
    await first.renew(["s1"])
    after = await first.note(GROUPS)
    second = PurgeMarks(path=tmp_path / "marks.json")
    await second.load()

    assert not second.are_current(before)
    assert second.are_current(after)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
async def test_where_the_file_is_spoilt_everything_counts_as_purged(tmp_path, content):
    path = tmp_path / "marks.json"
    path.write_bytes(content)
    alone, together = PurgeMarks(path=path), PurgeMarks(path=path, shared=FakeBoard())
    await alone.load()
    await together.load()
    never = tuple((group, "") for group in GROUPS)

    assert not alone.are_current(never)
    assert together.are_current(never)


async def test_a_disk_that_refuses_is_tried_again(tmp_path):
    marks = PurgeMarks(path=tmp_path / "file" / "marks.json")
    (tmp_path / "file").write_bytes(b"")
    await marks.renew(["s1"])
    (tmp_path / "file").unlink()
    await marks.save()

    assert (tmp_path / "file" / "marks.json").exists()


async def test_a_purge_elsewhere_is_seen_when_the_copy_is_old_and_not_before(board):
    clock = Clock()
    here, there = PurgeMarks(shared=board, clock=clock), PurgeMarks(shared=board, clock=clock)
    noted = await here.note(GROUPS)
    await there.renew(["s1"])

    assert await here.confirm(noted)
    assert board.fetches == 1
    clock.now += COPY_SECONDS + 1
    assert not await here.confirm(noted)


async def test_in_doubt_the_board_is_asked_at_once(board):
    here, there = PurgeMarks(shared=board), PurgeMarks(shared=board)
    noted = await here.note(GROUPS)
    await there.renew(["s1"])
    here.doubt()

    assert not await here.confirm(noted)


async def test_a_purge_while_the_board_is_away_is_told_later(board):
    here, there = PurgeMarks(shared=board), PurgeMarks(shared=board)
    noted = await there.note(GROUPS)
    board.tokens["s1"] = "an older purge"
    board.away = True

    assert not await here.renew(["s1"])
    assert not here.are_current(noted)
    board.away = False
    assert await here.confirm(await here.note(GROUPS))
    assert await here.post()
    assert board.tokens["s1"] != "an older purge"
    there.doubt()
    assert not await there.confirm(noted)


async def test_a_board_that_forgot_is_told_again_and_old_records_stay_void(board):
    here = PurgeMarks(shared=board)
    before = await here.note(GROUPS)
    await here.renew(["s1"])
    after = await here.note(GROUPS)
    token = board.tokens.pop("s1")
    here.doubt()

    assert not await here.confirm(before)
    assert await here.confirm(after)
    await here.post()
    assert board.tokens["s1"] == token


async def test_without_an_answer_what_is_known_here_decides(board):
    marks = PurgeMarks(shared=board)
    noted = await marks.note(GROUPS)
    board.away = True
    marks.doubt()

    assert await marks.confirm(noted)
    await marks.renew(["s1"])
    assert not await marks.confirm(noted)


async def test_too_many_groups_become_a_purge_of_everything(board, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_LIMIT", 10)
    marks = PurgeMarks(shared=board)
    noted = await marks.note(GROUPS)
    for number in range(12):
        await marks.renew([f"t{number}"])

    assert not marks.are_current(noted)
    assert len(marks.known()) <= 10
    assert ALL in board.tokens
    assert marks.are_current(await marks.note(GROUPS))


async def test_after_a_purge_of_everything_older_tokens_are_looked_up_again(board):
    marks = PurgeMarks(shared=board)
    await marks.renew(["s1"])
    await marks.renew([ALL])
    noted = await marks.note(GROUPS)

    assert dict(noted)["s1"] == board.tokens["s1"]
    assert await marks.confirm(noted)


async def test_what_others_have_purged_is_told_once_whenever_it_becomes_known(board):
    told: list[list[str]] = []
    here, there = PurgeMarks(shared=board, on_purge=told.append), PurgeMarks(shared=board)
    await there.renew(["s1"])
    before = list(told)
    await here.note(GROUPS)
    here.learn(there.known())
    await here.renew(["d1"])
    here.doubt()
    await here.note(GROUPS)

    assert (before, told) == ([], [["s1"]])


# An answer that was read before a purge, and comes after the news of it.


async def test_an_old_answer_does_not_undo_a_purge_of_ours(board):
    marks = PurgeMarks(shared=board)
    noted = await marks.note(GROUPS)
    asked_at = marks.moment
    await marks.renew(["s1"])
    marks.learn(dict.fromkeys(GROUPS, ""), since=asked_at)

    assert not marks.are_current(noted)


async def test_an_old_answer_does_not_undo_news(board):
    marks = PurgeMarks(shared=board)
    marks.learn({"s1": "first"})
    asked_at = marks.moment
    marks.learn({"s1": "second"})
    marks.learn({"s1": "first"}, since=asked_at)

    assert marks.at(["s1"]) == (("s1", "second"),)


async def test_an_old_answer_does_not_undo_a_purge_of_everything(board):
    marks = PurgeMarks(shared=board)
    noted = await marks.note(GROUPS)
    asked_at = marks.moment
    marks.learn({ALL: "everything"})
    marks.learn({ALL: "", "d1": "", "s1": ""}, since=asked_at)

    assert not marks.are_current(noted)


async def test_what_was_asked_before_a_gap_says_nothing_after_it(board):
    marks = PurgeMarks(shared=board)
    asked_at = marks.moment
    marks.doubt()
    marks.learn({"s1": "perhaps old"}, since=asked_at)

    assert not marks.are_recent(["s1"])
    assert marks.at(["s1"]) == (("s1", ""),)


async def test_a_look_during_a_gap_looks_again():
    class Gap(FakeBoard):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            if self.fetches == 2:
                self.tokens["s1"] = "purged elsewhere"
                marks.doubt()
            return found

    marks = PurgeMarks(shared=Gap())
    noted = await marks.note(GROUPS)
    marks.doubt()

    assert not await marks.confirm(noted)


async def test_an_answer_with_nothing_between_is_taken(board):
    marks = PurgeMarks(shared=board)
    marks.learn({"s1": "first"})
    marks.learn({"s1": "second"}, since=marks.moment)

    assert marks.at(["s1"]) == (("s1", "second"),)
    assert marks.are_recent(["s1"])


async def test_an_old_fetch_does_not_undo_a_purge_either():
    class Slow(FakeBoard):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            await marks.renew(["s1"])
            return found

    marks = PurgeMarks(shared=Slow())
    noted = await marks.note(GROUPS)

    assert dict(noted)["s1"] != ""
