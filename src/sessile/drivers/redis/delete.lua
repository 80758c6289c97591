-- Removes a session, if it is of this incarnation, and takes it out of the lists that are on this server.
-- The memory is given back in another thread of the server, so that a long session holds up nobody.
--
-- KEYS  head, log, runs, records, keys; then, where all keys are on one server, the hash of places and sorted sets
-- ARGV  session id, incarnation; '' as incarnation: there is no session (its keys have expired)
-- Returns 1 if it is gone.

if (redis.call('HGET', KEYS[1], 'incarnation') or '') ~= ARGV[2] then
  return 0
end
redis.call('UNLINK', unpack(KEYS, 1, 5))
if #KEYS > 5 then
  redis.call('HDEL', KEYS[6], ARGV[1])
end
for number = 7, #KEYS do
  redis.call('ZREM', KEYS[number], ARGV[1])
end
return 1
