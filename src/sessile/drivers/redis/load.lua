-- One look at a session.
--
-- KEYS  head, log
-- ARGV  how many of the newest commits, the names of the head's fields
-- Returns the server's clock (seconds, microseconds), the head's fields, and the newest commits, newest first.

local newest = tonumber(ARGV[1])
return {
  redis.call('TIME'),
  redis.call('HMGET', KEYS[1], unpack(ARGV, 2)),
  newest > 0 and redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', newest) or {},
}
