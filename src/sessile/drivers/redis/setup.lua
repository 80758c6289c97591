-- The version of the layout of the keys, written down by whoever comes first.
--
-- KEYS  where it is
-- ARGV  this program's version
-- Returns the version that is there.

local found = redis.call('GET', KEYS[1])
if not found then
  redis.call('SET', KEYS[1], ARGV[1])
end
return found or ARGV[1]
