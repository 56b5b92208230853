"""Token buckets in Redis, so that the servers of one namespace enforce one rate limit together."""

from imgserver.cache.redis.client import RedisClient

# A bucket is one number: when it will be full again, in microseconds of Redis' own clock, so that the clocks of the
# servers do not matter (GCRA, the generic cell rate algorithm). The key expires when the bucket is full.
# KEYS: bucket. ARGV: microseconds per token, capacity in tokens. Returns the microseconds to wait; 0: token taken.
_TAKE = """
local time = redis.call('TIME')
local now, each, burst = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now)
full = math.min(full, now + each * burst) + each
local wait = full - now - each * burst
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
"""


class SharedTokenBuckets:
    """Buckets at `<namespace>:bucket:<name>`. Never raises, and takes no longer than the client allows."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        """Takes one token. Returns 0, or the seconds until there will be one; None: Redis did not answer."""
        key, each = self._client.name("bucket", name), 1_000_000 / per_second
        replies = await self._client.write("bucket", lambda pipe: pipe.eval(_TAKE, 1, key, each, burst))
        if replies is None or isinstance(replies[0], Exception):
            return None
        return float(replies[0]) / 1_000_000
