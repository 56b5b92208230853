import dataclasses

import pytest

from imgserver.cache import invalidation as module
from imgserver.cache.cache_tags import ALL
from imgserver.cache.invalidation import COPY_SECONDS, Generations

GROUPS = (ALL, "d1", "s1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class FakeBoard:
    """Shared generations that can be away."""

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
    generations = Generations()
    noted = await generations.fetch(GROUPS)

    assert noted == tuple((group, "") for group in GROUPS)
    assert generations.are_current(noted)


@pytest.mark.parametrize("group", GROUPS)
async def test_a_purge_of_any_group_voids_what_was_noted_before_and_not_after(group):
    generations = Generations()
    before = await generations.fetch(GROUPS)
    others = await generations.fetch(("x1",))
    await generations.bump([group])
    after = await generations.fetch(GROUPS)

    assert not generations.are_current(before)
    assert generations.are_current(after)
    assert generations.are_current(others)


async def test_a_second_purge_voids_what_came_after_the_first():
    generations = Generations()
    await generations.bump(["s1"])
    noted = await generations.fetch(GROUPS)
    await generations.bump(["s1"])

    assert not generations.are_current(noted)


async def test_marks_survive_a_restart(tmp_path):
    first = Generations(path=tmp_path / "marks.json")
    before = await first.fetch(GROUPS)
    await first.bump(["s1"])
    after = await first.fetch(GROUPS)
    second = Generations(path=tmp_path / "marks.json")
    await second.load()

    assert not second.are_current(before)
    assert second.are_current(after)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
async def test_where_the_file_is_spoilt_everything_counts_as_purged(tmp_path, content):
    path = tmp_path / "marks.json"
    path.write_bytes(content)
    alone, together = Generations(path=path), Generations(path=path, shared=FakeBoard())
    await alone.load()
    await together.load()
    never = tuple((group, "") for group in GROUPS)

    assert not alone.are_current(never)
    assert together.are_current(never)


async def test_a_disk_that_refuses_is_tried_again(tmp_path):
    generations = Generations(path=tmp_path / "file" / "marks.json")
    (tmp_path / "file").write_bytes(b"")
    await generations.bump(["s1"])
    (tmp_path / "file").unlink()
    await generations.save()

    assert (tmp_path / "file" / "marks.json").exists()


async def test_a_purge_elsewhere_is_seen_when_the_copy_is_old_and_not_before(board):
    clock = Clock()
    here, there = Generations(shared=board, clock=clock), Generations(shared=board, clock=clock)
    noted = await here.fetch(GROUPS)
    await there.bump(["s1"])

    assert await here.confirm(noted)
    assert board.fetches == 1
    clock.now += COPY_SECONDS + 1
    assert not await here.confirm(noted)


async def test_in_doubt_the_board_is_asked_at_once(board):
    here, there = Generations(shared=board), Generations(shared=board)
    noted = await here.fetch(GROUPS)
    await there.bump(["s1"])
    here.doubt()

    assert not await here.confirm(noted)


async def test_a_purge_while_the_board_is_away_is_told_later(board):
    here, there = Generations(shared=board), Generations(shared=board)
    noted = await there.fetch(GROUPS)
    board.tokens["s1"] = "an older purge"
    board.away = True

    assert not await here.bump(["s1"])
    assert not here.are_current(noted)
    board.away = False
    assert await here.confirm(await here.fetch(GROUPS))
    assert await here.post()
    assert board.tokens["s1"] != "an older purge"
    there.doubt()
    assert not await there.confirm(noted)


async def test_a_board_that_forgot_is_told_again_and_old_records_stay_void(board):
    here = Generations(shared=board)
    before = await here.fetch(GROUPS)
    await here.bump(["s1"])
    after = await here.fetch(GROUPS)
    token = board.tokens.pop("s1")
    here.doubt()

    assert not await here.confirm(before)
    assert await here.confirm(after)
    await here.post()
    assert board.tokens["s1"] == token


async def test_without_an_answer_what_is_known_here_decides(board):
    generations = Generations(shared=board)
    noted = await generations.fetch(GROUPS)
    board.away = True
    generations.doubt()

    assert await generations.confirm(noted)
    await generations.bump(["s1"])
    assert not await generations.confirm(noted)


async def test_too_many_groups_become_a_purge_of_everything(board, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_LIMIT", 10)
    generations = Generations(shared=board)
    noted = await generations.fetch(GROUPS)
    for number in range(12):
        await generations.bump([f"t{number}"])

    assert not generations.are_current(noted)
    assert len(generations.all_known()) <= 10
    assert ALL in board.tokens
    assert generations.are_current(await generations.fetch(GROUPS))


async def test_after_a_purge_of_everything_older_tokens_are_looked_up_again(board):
    generations = Generations(shared=board)
    await generations.bump(["s1"])
    await generations.bump([ALL])
    noted = await generations.fetch(GROUPS)

    assert dict(noted)["s1"] == board.tokens["s1"]
    assert await generations.confirm(noted)


async def test_what_others_have_purged_is_told_once_whenever_it_becomes_known(board):
    told: list[list[str]] = []
    here, there = Generations(shared=board, on_purge=told.append), Generations(shared=board)
    await there.bump(["s1"])
    before = list(told)
    await here.fetch(GROUPS)
    here.learn(there.all_known())
    await here.bump(["d1"])
    here.doubt()
    await here.fetch(GROUPS)

    assert (before, told) == ([], [["s1"]])


# An answer that was read before a purge, and comes after the news of it.


async def test_an_old_answer_does_not_undo_a_purge_of_ours(board):
    generations = Generations(shared=board)
    noted = await generations.fetch(GROUPS)
    asked_at = generations.moment
    await generations.bump(["s1"])
    generations.learn(dict.fromkeys(GROUPS, ""), since=asked_at)

    assert not generations.are_current(noted)


async def test_an_old_answer_does_not_undo_news(board):
    generations = Generations(shared=board)
    generations.learn({"s1": "first"})
    asked_at = generations.moment
    generations.learn({"s1": "second"})
    generations.learn({"s1": "first"}, since=asked_at)

    assert generations.known(["s1"]) == (("s1", "second"),)


async def test_an_old_answer_does_not_undo_a_purge_of_everything(board):
    generations = Generations(shared=board)
    noted = await generations.fetch(GROUPS)
    asked_at = generations.moment
    generations.learn({ALL: "everything"})
    generations.learn({ALL: "", "d1": "", "s1": ""}, since=asked_at)

    assert not generations.are_current(noted)


async def test_what_was_asked_before_a_gap_says_nothing_after_it(board):
    generations = Generations(shared=board)
    asked_at = generations.moment
    generations.doubt()
    generations.learn({"s1": "perhaps old"}, since=asked_at)

    assert not generations.are_recent(["s1"])
    assert generations.known(["s1"]) == (("s1", ""),)


async def test_a_look_during_a_gap_looks_again():
    class Gap(FakeBoard):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            if self.fetches == 2:
                self.tokens["s1"] = "purged elsewhere"
                generations.doubt()
            return found

    generations = Generations(shared=Gap())
    noted = await generations.fetch(GROUPS)
    generations.doubt()

    assert not await generations.confirm(noted)


async def test_an_answer_with_nothing_between_is_taken(board):
    generations = Generations(shared=board)
    generations.learn({"s1": "first"})
    generations.learn({"s1": "second"}, since=generations.moment)

    assert generations.known(["s1"]) == (("s1", "second"),)
    assert generations.are_recent(["s1"])


async def test_an_old_fetch_does_not_undo_a_purge_either():
    class Slow(FakeBoard):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            await generations.bump(["s1"])
            return found

    generations = Generations(shared=Slow())
    noted = await generations.fetch(GROUPS)

    assert dict(noted)["s1"] != ""
