"""Reload of the security policy."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from imgserver.observability.audit import Audit
from imgserver.observability.metrics import Metrics
from imgserver.security.policy import Policy
from imgserver.settings.policy_file import BadPolicy, load

# The metric's label for a server without a policy file.
BUILT_IN = "built-in"


class PolicyReload:
    """`current` is the policy in force. It is replaced at a reload: a caller must not keep a copy."""

    def __init__(self, path: Path, *, install: Callable[[Policy], None], metrics: Metrics, audit: Audit) -> None:
        """Reads the file and puts its policy into force; `Path()` stands for no file. Raises BadPolicy.

        `install` must neither fail nor await, so that no request meets a mixture of old and new rules.
        """
        self._path = path
        self._install = install
        self._metrics = metrics
        self._audit = audit
        self.current = load(path) if path != Path() else Policy()
        self._enforce(self.current)

    async def reload(self) -> None:
        """Raises BadPolicy; the old policy then stays in force."""
        if self._path == Path():
            return
        try:
            policy = await asyncio.to_thread(load, self._path)
        except BadPolicy as error:
            self._metrics.policy_reloaded.set(0)
            self._audit("policy_refused", reason="invalid", faults=len(error.facts["faults"]))
            raise
        if policy != self.current:
            self._audit("policy_changed", reason="reload", digest=policy.digest, before=self.current.digest)
        self._enforce(policy)

    def _enforce(self, policy: Policy) -> None:
        self.current = policy
        self._install(policy)
        self._metrics.policy_info.clear()
        self._metrics.policy_info.labels(policy.digest or BUILT_IN).set(1)
        self._metrics.policy_reloaded.set(1)
        self._metrics.policy_reloaded_at.set(time.time())
