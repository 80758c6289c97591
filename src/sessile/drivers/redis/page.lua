-- Entries of a sorted set, from one end to the other. A script, so that scores come as text in any protocol.
--
-- KEYS  the sorted set
-- ARGV  the score to begin with, the score to end with, at most so many, '1' for ascending
-- Returns member, score, member, score, …

local command = ARGV[4] == '1' and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE'
return redis.call(command, KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
