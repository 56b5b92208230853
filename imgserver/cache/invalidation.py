"""Generations: what was purged, told by a random token per group; no token means never.

A flight notes the generations of its groups before it opens the original, and the record keeps them. A purge sets new
tokens.
So a record whose generations are not the current ones was begun before a purge, whoever wrote it and whenever: it is
neither
stored nor served. Too many tokens, or one lost, cost renders, never a picture from before a purge:

- a lost mark ("" again) differs from what newer records noted, and older ones went with the sweep;
- replicas that know different tokens of one group drop each other's records;
- of too many groups, everything is purged instead.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from imgserver.cache.cache_tags import ALL
from imgserver.plan.rendition import GroupGenerations

# A copy of a shared mark is trusted so long without another look; news of purges comes at once besides.
COPY_SECONDS = 10.0
TOKENS_LIMIT = 50_000
LOOKS_LIMIT = 50_000


class GenerationStore(Protocol):
    """Generations that others see as well. Neither raises for what the other side does."""

    async def fetch(self, groups: Sequence[str]) -> dict[str, str] | None:
        """The token of each group, "" where none is; None: not to be had now."""

    async def post(self, tokens: Mapping[str, str]) -> bool:
        """Sets them and tells the others. False: perhaps not."""


class Generations:
    """The generations as this process knows them. `path` keeps them over a restart; `shared` is the replicas' board,
    and
    `on_purge` is told of groups that others have purged, whenever that becomes known."""

    def __init__(
        self,
        *,
        shared: GenerationStore | None = None,
        path: Path | None = None,
        on_purge: Callable[[Collection[str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._path = path
        self._on_purge = on_purge
        self._clock = clock
        self._tokens: dict[str, str] = {}
        # Purged here, and not yet known to be on the board.
        self._unposted: set[str] = set()
        self._looked: dict[str, float] = {}
        # Changes are numbered, so that an answer from before one does not undo it; `_floor` is the last that may have
        # been of any group.
        self._moment = self._floor = 0
        self._changed: dict[str, int] = {}
        self._unsaved = False
        self._saving = asyncio.Lock()

    def are_current(self, generations: GroupGenerations) -> bool:
        """Whether nothing of it was purged since, as far as is known here. No I/O: for every hit."""
        # A loop, because `all` over a generator takes twice as long.
        tokens = self._tokens
        for group, token in generations:  # noqa: SIM110
            if tokens.get(group, "") != token:
                return False
        return True

    def are_recent(self, groups: Iterable[str]) -> bool:
        """Whether the board was looked at a moment ago, for each of them."""
        looked, old = self._looked, self._clock() - COPY_SECONDS
        for group in groups:  # noqa: SIM110
            if looked.get(group, old) <= old:
                return False
        return True

    async def fetch(self, groups: Sequence[str]) -> GroupGenerations:
        """The generations to keep in a record. Call it before the original is opened; a copy some seconds old is
        safe."""
        if not self.are_recent(groups):
            await self._look(groups)
        return self.known(groups)

    async def confirm(self, generations: GroupGenerations) -> bool:
        """`are_current`, after a look at the board where the copies are old."""
        groups = [group for group, _ in generations]
        if not self.are_recent(groups):
            await self._look(groups)
        return self.are_current(generations)

    def known(self, groups: Iterable[str]) -> GroupGenerations:
        """The generations of groups as they are known here, without a look."""
        return tuple((group, self._tokens.get(group, "")) for group in groups)

    def all_known(self) -> dict[str, str]:
        """Every token there is, by group."""
        return dict(self._tokens)

    async def bump(self, groups: Iterable[str]) -> bool:
        """Purges: every record of these groups is void from now on. False: the other replicas do not know yet, but
        will as soon as the board can be reached."""
        fresh = {group: secrets.token_hex(8) for group in groups}
        self._take(fresh)
        self._unposted |= self._tokens.keys() & fresh.keys()
        await self.save()
        return await self.post()

    async def post(self) -> bool:
        """Tells the board what it does not know yet; cheap when there is nothing."""
        if self._shared is None or not self._unposted:
            return True
        tokens = {group: self._tokens[group] for group in self._unposted if group in self._tokens}
        if not await self._shared.post(tokens):
            return False
        self._unposted -= {group for group, token in tokens.items() if self._tokens.get(group) == token}
        return True

    @property
    def moment(self) -> int:
        """How much has changed so far: to be noted before the board is asked."""
        return self._moment

    def learn(self, tokens: Mapping[str, str], *, since: int | None = None) -> None:
        """What the board says; news, or an answer to who asked at the moment `since`: what has changed meanwhile was
        perhaps read before that, and is not taken. Where the board has nothing and we have, it has forgotten, and is
        told again."""
        if since is not None:
            if since < self._floor:
                return
            tokens = {group: token for group, token in tokens.items() if self._changed.get(group, 0) <= since}
        self._unposted |= {group for group, token in tokens.items() if not token and group in self._tokens}
        others = {group: token for group, token in tokens.items() if token and group not in self._unposted}
        news = [group for group, token in others.items() if self._tokens.get(group) != token]
        self._take(others)
        if news:
            self._on_purge(news)
        if len(self._looked) > LOOKS_LIMIT:
            self._looked.clear()
        self._looked.update(dict.fromkeys(tokens, self._clock()))

    def doubt(self) -> None:
        """News may have been missed: no copy is trusted without a look."""
        self._looked.clear()
        self._forget_changes()

    async def load(self) -> None:
        """What `save` wrote. Where a file cannot be read and no board knows better, everything counts as purged."""
        if self._path is None:
            return
        tokens = await asyncio.to_thread(_read, self._path)
        if tokens is None:
            tokens = {} if self._shared is not None else {ALL: secrets.token_hex(8)}
        self._take(tokens)

    async def save(self) -> None:
        """Writes the generations if there are new ones. A disk that refuses is tried again next time."""
        async with self._saving:
            if self._path is None or not self._unsaved:
                return
            self._unsaved = False
            try:
                await asyncio.to_thread(_write, self._path, dict(self._tokens))
            except OSError:
                self._unsaved = True

    async def _look(self, groups: Sequence[str]) -> None:
        if self._shared is None:
            return
        since = self._moment
        tokens = await self._shared.fetch(groups)
        if tokens is not None and since < self._floor:
            # Asked before a gap, it says nothing after it; and what is known from before says less.
            since = self._moment
            tokens = await self._shared.fetch(groups)
        if tokens is not None:
            self.learn(tokens, since=since)

    def _take(self, tokens: Mapping[str, str]) -> None:
        changed = {group: token for group, token in tokens.items() if self._tokens.get(group) != token}
        if not changed:
            return
        self._unsaved = True
        self._moment += 1
        self._changed.update(dict.fromkeys(changed, self._moment))
        self._tokens.update(changed)
        if ALL in changed:
            # What was purged before everything was need not be known: its records are void anyway.
            self._tokens = dict(tokens)
            self._looked.clear()
            self._forget_changes()
        elif len(self._tokens) > TOKENS_LIMIT:
            self._tokens = {ALL: secrets.token_hex(8)}
            self._unposted = {ALL}
            self._forget_changes()
        self._unposted &= self._tokens.keys()

    def _forget_changes(self) -> None:
        self._moment += 1
        self._floor = self._moment
        self._changed.clear()


def _read(path: Path) -> dict[str, str] | None:
    try:
        tokens: Any = orjson.loads(path.read_bytes())
        return dict(tokens) if all(isinstance(token, str) for token in tokens.values()) else None
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return None


def _write(path: Path, tokens: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps(tokens))
    temporary.replace(path)
