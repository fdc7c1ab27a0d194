"""The Redis driver: an engine with every feature, for Redis 6.2 and newer, and for Valkey."""

from queuekit_redis.address import Settings
from queuekit_redis.driver import RedisDriver

__all__ = ["RedisDriver", "Settings"]
