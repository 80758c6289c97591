-- The version of the layout of the keys, written down by whoever comes first, or has brought the keys from one to the next.
--
-- KEYS  where it is
-- ARGV  this program's version; the version from which it has brought them there, or ''
-- Returns the version that is there now.

local found = redis.call('GET', KEYS[1])
if not found or found == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return found
