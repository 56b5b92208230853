"""Token buckets in Redis: the servers that share one count a client together."""

from imgserver.cache.redis.client import RedisClient

# One number per bucket: when it will be full again, in microseconds of Redis' own clock, so that the servers' clocks
# do not matter (GCRA, the generic cell rate algorithm). A bucket that is full again need not be kept.
# KEYS: bucket. ARGV: microseconds per token, tokens of a full bucket. Answers the microseconds to wait; 0: taken.
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
    """Buckets at `<namespace>:bucket:<name>`. Nothing here raises, or takes longer than the link allows."""

    def __init__(self, link: RedisClient) -> None:
        self._client = link

    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        """A token out of the bucket: the seconds until there would be one, 0 when it was had. None: Redis does not
        say."""
        key, each = self._client.name("bucket", name), 1_000_000 / per_second
        replies = await self._client.write("bucket", lambda pipe: pipe.eval(_TAKE, 1, key, each, burst))
        if replies is None or isinstance(replies[0], Exception):
            return None
        return float(replies[0]) / 1_000_000
