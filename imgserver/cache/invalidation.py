"""Invalidation by generations: a cache group that was purged has a random token, its generation.

A render fetches the generations of its groups before it opens the original, and the record keeps them. A purge gives
the groups new tokens. A record whose generations are not the current ones was begun before a purge, whoever wrote it
and whenever: it is neither stored nor returned. A group that was never purged has no token, written "".

Too many tokens or a lost one cost renders; they never let through a rendition from before a purge:

- a lost token ("" again) differs from what newer records have, and the sweep removed the older ones;
- servers that know different tokens of one group drop each other's records;
- when there are too many groups, everything is purged instead.
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
from imgserver.runtime.files import write_atomically

# A copy of a shared token is trusted for so long. Purges of other servers arrive earlier, by subscription.
COPY_SECONDS = 10.0
MAX_TOKENS = 50_000
# Every request below memory needs the tokens of about eight groups. An entry takes 150 bytes.
MAX_COPIES = 10_000


class SharedGenerations(Protocol):
    """Generations that several servers share. Neither method raises."""

    async def fetch(self, groups: Sequence[str]) -> dict[str, str] | None:
        """The token of each group, "" for a group without one. None: not available now."""

    async def publish(self, tokens: Mapping[str, str]) -> bool:
        """Stores the tokens and notifies the other servers. False: perhaps not done."""


class Generations:
    """The generations that this process knows.

    The file at `path` keeps them over a restart; `shared` holds those of all servers. `on_purge(groups)` is called when
    this process learns that another server has purged.
    """

    def __init__(
        self,
        *,
        shared: SharedGenerations | None = None,
        path: Path | None = None,
        on_purge: Callable[[Collection[str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._path = path
        self._on_purge = on_purge
        self._clock = clock
        self._tokens: dict[str, str] = {}
        # Groups that were purged here; the shared generations may not have their tokens yet.
        self._unpublished: set[str] = set()
        # When the shared token of a group was fetched last.
        self._fetched_at: dict[str, float] = {}
        # Changes are numbered, so that a reply from before a change does not undo it. `_gap` is the number of the last
        # event that may have changed any group.
        self._changes = self._gap = 0
        self._changed_at: dict[str, int] = {}
        self._unsaved = False
        self._saving = asyncio.Lock()

    def are_current(self, generations: GroupGenerations) -> bool:
        """Whether no purge since is known here. No I/O: called for every hit."""
        # A loop: `all` over a generator takes twice as long.
        tokens = self._tokens
        for group, token in generations:  # noqa: SIM110
            if tokens.get(group, "") != token:
                return False
        return True

    def are_recent(self, groups: Iterable[str]) -> bool:
        """Whether the shared token of each group was fetched within COPY_SECONDS."""
        fetched_at, oldest = self._fetched_at, self._clock() - COPY_SECONDS
        for group in groups:  # noqa: SIM110
            if fetched_at.get(group, oldest) <= oldest:
                return False
        return True

    async def fetch(self, groups: Sequence[str]) -> GroupGenerations:
        """The generations for a new record. Call it before the original is opened. A copy may be COPY_SECONDS old:
        then the record is dropped when it is next looked up."""
        if not self.are_recent(groups):
            await self._refresh(groups)
        return self.known(groups)

    async def confirm(self, generations: GroupGenerations) -> bool:
        """`are_current`, after fetching the shared tokens if a copy is too old."""
        groups = tuple(dict(generations))
        if not self.are_recent(groups):
            await self._refresh(groups)
        return self.are_current(generations)

    def known(self, groups: Iterable[str]) -> GroupGenerations:
        """The generations of these groups as they are known here, without I/O."""
        return tuple((group, self._tokens.get(group, "")) for group in groups)

    def all_known(self) -> dict[str, str]:
        """Every token by group."""
        return dict(self._tokens)

    async def bump(self, groups: Iterable[str]) -> bool:
        """Gives these groups new tokens, which invalidates all their records. False: the other servers do not know yet;
        `publish` tells them once the shared generations are available."""
        tokens = {group: secrets.token_hex(8) for group in groups}
        self._adopt(tokens)
        self._unpublished |= self._tokens.keys() & tokens.keys()
        await self.save()
        return await self.publish()

    async def publish(self) -> bool:
        """Publishes the tokens that are not shared yet. Cheap when there are none. False: some are left."""
        if self._shared is None or not self._unpublished:
            return True
        tokens = {group: self._tokens[group] for group in self._unpublished if group in self._tokens}
        if not await self._shared.publish(tokens):
            return False
        self._unpublished -= {group for group, token in tokens.items() if self._tokens.get(group) == token}
        return True

    @property
    def changes(self) -> int:
        """The number of changes so far. Read it before the shared tokens are requested, and give it to `learn`."""
        return self._changes

    def learn(self, tokens: Mapping[str, str], *, since: int | None = None) -> None:
        """Adopts shared tokens: those of a notification, or the reply to a request that was sent after `since` changes.

        A reply says nothing about groups that changed after it was requested. When the shared generations lack a token
        that is known here, they have lost it, and it is published again.
        """
        if since is not None and since < self._gap:
            return
        learned, shared, purged = [], {}, []
        for group, token in tokens.items():
            if since is not None and self._changed_at.get(group, 0) > since:
                continue
            learned.append(group)
            if not token and group in self._tokens:
                self._unpublished.add(group)
            elif token and group not in self._unpublished:
                shared[group] = token
                if self._tokens.get(group) != token:
                    purged.append(group)
        if purged:
            self._adopt(shared)
            self._on_purge(purged)
        if len(self._fetched_at) > MAX_COPIES:
            self._fetched_at.clear()
        self._fetched_at.update(dict.fromkeys(learned, self._clock()))

    def distrust_copies(self) -> None:
        """Notifications may have been missed: every shared token is fetched again before it is used."""
        self._fetched_at.clear()
        self._forget_changes()

    async def load(self) -> None:
        """Reads what `save` wrote. If the file is unreadable and nothing is shared, everything counts as purged."""
        if self._path is None:
            return
        tokens = await asyncio.to_thread(_read, self._path)
        if tokens is None:
            tokens = {} if self._shared is not None else {ALL: secrets.token_hex(8)}
        self._adopt(tokens)

    async def save(self) -> None:
        """Writes the tokens if they changed. After a disk error the next call tries again."""
        async with self._saving:
            if self._path is None or not self._unsaved:
                return
            self._unsaved = False
            try:
                await asyncio.to_thread(_write, self._path, dict(self._tokens))
            except OSError:
                self._unsaved = True

    async def _refresh(self, groups: Sequence[str]) -> None:
        if self._shared is None:
            return
        since = self._changes
        tokens = await self._shared.fetch(groups)
        if tokens is not None and since < self._gap:
            # A reply that was requested before a gap cannot be used, and what was known before it is worth even less.
            since = self._changes
            tokens = await self._shared.fetch(groups)
        if tokens is not None:
            self.learn(tokens, since=since)

    def _adopt(self, tokens: Mapping[str, str]) -> None:
        changed = {group: token for group, token in tokens.items() if self._tokens.get(group) != token}
        if not changed:
            return
        self._unsaved = True
        self._changes += 1
        self._changed_at.update(dict.fromkeys(changed, self._changes))
        self._tokens.update(changed)
        if ALL in changed:
            # Every older record is invalid now, so older tokens are of no use.
            self._tokens = dict(tokens)
            self._fetched_at.clear()
            self._forget_changes()
        elif len(self._tokens) > MAX_TOKENS:
            self._tokens = {ALL: secrets.token_hex(8)}
            self._unpublished = {ALL}
            self._forget_changes()
        self._unpublished &= self._tokens.keys()

    def _forget_changes(self) -> None:
        self._changes += 1
        self._gap = self._changes
        self._changed_at.clear()


def _read(path: Path) -> dict[str, str] | None:
    """None: the file is unreadable. A missing file has no tokens."""
    try:
        tokens: Any = orjson.loads(path.read_bytes())
        return dict(tokens) if all(isinstance(token, str) for token in tokens.values()) else None
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return None


def _write(path: Path, tokens: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, orjson.dumps(tokens))
