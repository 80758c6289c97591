-- Writes or removes a record of a session.
--
-- KEYS  head, records
-- ARGV  incarnation, the record's key; its value, or nothing to remove it
-- Returns 1 if there is a session of this incarnation.

if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return 0
end
if ARGV[3] then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 then
    redis.call('PEXPIRE', KEYS[2], left) -- the records may be the first ones, and go when their session goes
  end
else
  redis.call('HDEL', KEYS[2], ARGV[2])
end
return 1
