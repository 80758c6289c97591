-- Corrects an entry of a sorted set, unless somebody has changed it, or its session, since it was seen.
--
-- KEYS  the sorted set; then, where it is on the same server, the session's head
-- ARGV  member, its score as seen, the score that it should have or '' for none; incarnation and revision of the head
--       that this was concluded from
-- Returns 1 if it was done.

if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
if KEYS[2] then
  local found = redis.call('HMGET', KEYS[2], 'incarnation', 'revision')
  if found[1] ~= ARGV[4] or found[2] ~= ARGV[5] then
    return 0
  end
end
if ARGV[3] == '' then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
