"""Everything of the cache that talks to Redis: the tier, its client, shared invalidation, render lock, rate limit."""
