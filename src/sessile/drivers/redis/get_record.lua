-- A record of a session.
--
-- KEYS  head, records
-- ARGV  incarnation, the record's key
-- Returns its value, or nothing.

return redis.call('HGET', KEYS[1], 'incarnation') == ARGV[1] and redis.call('HGET', KEYS[2], ARGV[2])
