-- Entries of a sorted set, from the highest score downwards. A script, so that scores come as text in any protocol.
--
-- KEYS  the sorted set
-- ARGV  highest score, lowest score, at most so many
-- Returns member, score, member, score, …

return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
