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
class FakeShared:
    """Shared generations that can be unavailable."""

    tokens: dict = dataclasses.field(default_factory=dict)
    away: bool = False
    fetches: int = 0

    async def fetch(self, groups):
        self.fetches += 1
        return None if self.away else {group: self.tokens.get(group, "") for group in groups}

    async def publish(self, tokens):
        if not self.away:
            self.tokens |= tokens
        return not self.away


@pytest.fixture
def shared():
    return FakeShared()


async def test_a_group_that_was_never_purged_has_no_token_and_is_current():
    generations = Generations()
    noted = await generations.fetch(GROUPS)

    assert noted == tuple((group, "") for group in GROUPS)
    assert generations.are_current(noted)


@pytest.mark.parametrize("group", GROUPS)
async def test_a_purge_of_any_group_invalidates_older_generations_only(group):
    generations = Generations()
    before = await generations.fetch(GROUPS)
    others = await generations.fetch(("x1",))
    await generations.bump([group])
    after = await generations.fetch(GROUPS)

    assert not generations.are_current(before)
    assert generations.are_current(after)
    assert generations.are_current(others)


async def test_a_second_purge_invalidates_what_followed_the_first():
    generations = Generations()
    await generations.bump(["s1"])
    noted = await generations.fetch(GROUPS)
    await generations.bump(["s1"])

    assert not generations.are_current(noted)


async def test_generations_survive_a_restart(tmp_path):
    first = Generations(path=tmp_path / "generations.json")
    before = await first.fetch(GROUPS)
    await first.bump(["s1"])
    after = await first.fetch(GROUPS)
    second = Generations(path=tmp_path / "generations.json")
    await second.load()

    assert not second.are_current(before)
    assert second.are_current(after)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
async def test_an_unreadable_file_purges_everything(tmp_path, content):
    path = tmp_path / "generations.json"
    path.write_bytes(content)
    alone, together = Generations(path=path), Generations(path=path, shared=FakeShared())
    await alone.load()
    await together.load()
    never = tuple((group, "") for group in GROUPS)

    assert not alone.are_current(never)
    assert together.are_current(never)


async def test_saving_is_tried_again_after_a_disk_error(tmp_path):
    generations = Generations(path=tmp_path / "file" / "generations.json")
    (tmp_path / "file").write_bytes(b"")
    await generations.bump(["s1"])
    (tmp_path / "file").unlink()
    await generations.save()

    assert (tmp_path / "file" / "generations.json").exists()


async def test_a_purge_elsewhere_is_seen_when_the_copy_is_too_old(shared):
    clock = Clock()
    here, there = Generations(shared=shared, clock=clock), Generations(shared=shared, clock=clock)
    noted = await here.fetch(GROUPS)
    await there.bump(["s1"])

    assert await here.confirm(noted)
    assert shared.fetches == 1
    clock.now += COPY_SECONDS + 1
    assert not await here.confirm(noted)


async def test_distrusted_copies_are_fetched_again(shared):
    here, there = Generations(shared=shared), Generations(shared=shared)
    noted = await here.fetch(GROUPS)
    await there.bump(["s1"])
    here.distrust_copies()

    assert not await here.confirm(noted)


async def test_a_purge_without_shared_generations_is_published_later(shared):
    here, there = Generations(shared=shared), Generations(shared=shared)
    noted = await there.fetch(GROUPS)
    shared.tokens["s1"] = "an older purge"
    shared.away = True

    assert not await here.bump(["s1"])
    assert not here.are_current(noted)
    shared.away = False
    assert await here.confirm(await here.fetch(GROUPS))
    assert await here.publish()
    assert shared.tokens["s1"] != "an older purge"
    there.distrust_copies()
    assert not await there.confirm(noted)


async def test_shared_generations_that_were_lost_are_published_again_and_old_records_stay_invalid(shared):
    here = Generations(shared=shared)
    before = await here.fetch(GROUPS)
    await here.bump(["s1"])
    after = await here.fetch(GROUPS)
    token = shared.tokens.pop("s1")
    here.distrust_copies()

    assert not await here.confirm(before)
    assert await here.confirm(after)
    await here.publish()
    assert shared.tokens["s1"] == token


async def test_without_a_reply_the_known_generations_decide(shared):
    generations = Generations(shared=shared)
    noted = await generations.fetch(GROUPS)
    shared.away = True
    generations.distrust_copies()

    assert await generations.confirm(noted)
    await generations.bump(["s1"])
    assert not await generations.confirm(noted)


async def test_too_many_groups_become_a_purge_of_everything(shared, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOKENS", 10)
    generations = Generations(shared=shared)
    noted = await generations.fetch(GROUPS)
    for number in range(12):
        await generations.bump([f"t{number}"])

    assert not generations.are_current(noted)
    assert len(generations.all_known()) <= 10
    assert ALL in shared.tokens
    assert generations.are_current(await generations.fetch(GROUPS))


async def test_a_purge_of_everything_keeps_the_shared_tokens_of_other_groups(shared):
    generations = Generations(shared=shared)
    await generations.bump(["s1"])
    await generations.bump([ALL])
    noted = await generations.fetch(GROUPS)

    assert dict(noted)["s1"] == shared.tokens["s1"]
    assert await generations.confirm(noted)


async def test_on_purge_is_called_once_for_a_purge_of_another_server(shared):
    purges: list[list[str]] = []
    here, there = Generations(shared=shared, on_purge=purges.append), Generations(shared=shared)
    await there.bump(["s1"])
    before = list(purges)
    await here.fetch(GROUPS)
    here.learn(there.all_known())
    await here.bump(["d1"])
    here.distrust_copies()
    await here.fetch(GROUPS)

    assert (before, purges) == ([], [["s1"]])


# Replies that were read before a purge and arrive after it.


async def test_an_old_reply_does_not_undo_a_purge_of_this_server(shared):
    generations = Generations(shared=shared)
    noted = await generations.fetch(GROUPS)
    since = generations.changes
    await generations.bump(["s1"])
    generations.learn(dict.fromkeys(GROUPS, ""), since=since)

    assert not generations.are_current(noted)


async def test_an_old_reply_does_not_undo_a_notification(shared):
    generations = Generations(shared=shared)
    generations.learn({"s1": "first"})
    since = generations.changes
    generations.learn({"s1": "second"})
    generations.learn({"s1": "first"}, since=since)

    assert generations.known(["s1"]) == (("s1", "second"),)


async def test_an_old_reply_does_not_undo_a_purge_of_everything(shared):
    generations = Generations(shared=shared)
    noted = await generations.fetch(GROUPS)
    since = generations.changes
    generations.learn({ALL: "everything"})
    generations.learn({ALL: "", "d1": "", "s1": ""}, since=since)

    assert not generations.are_current(noted)


async def test_a_reply_from_before_a_gap_is_ignored(shared):
    generations = Generations(shared=shared)
    since = generations.changes
    generations.distrust_copies()
    generations.learn({"s1": "perhaps old"}, since=since)

    assert not generations.are_recent(["s1"])
    assert generations.known(["s1"]) == (("s1", ""),)


async def test_a_fetch_during_a_gap_is_repeated():
    class Gap(FakeShared):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            if self.fetches == 2:
                self.tokens["s1"] = "purged elsewhere"
                generations.distrust_copies()
            return found

    generations = Generations(shared=Gap())
    noted = await generations.fetch(GROUPS)
    generations.distrust_copies()

    assert not await generations.confirm(noted)


async def test_a_reply_without_a_change_in_between_is_adopted(shared):
    generations = Generations(shared=shared)
    generations.learn({"s1": "first"})
    generations.learn({"s1": "second"}, since=generations.changes)

    assert generations.known(["s1"]) == (("s1", "second"),)
    assert generations.are_recent(["s1"])


async def test_a_fetch_does_not_undo_a_purge_that_came_during_it():
    class Slow(FakeShared):
        async def fetch(self, groups):
            found = await super().fetch(groups)
            await generations.bump(["s1"])
            return found

    generations = Generations(shared=Slow())
    noted = await generations.fetch(GROUPS)

    assert dict(noted)["s1"] != ""
