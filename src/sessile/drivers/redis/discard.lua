-- Removes whatever has the keys of a session.
--
-- KEYS  head, log, runs, records, keys
-- Returns how many there were.

return redis.call('UNLINK', unpack(KEYS))
