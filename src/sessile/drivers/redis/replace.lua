-- Puts a copy of a session's log, made by `copy.lua`, in its place, with what was appended meanwhile.
--
-- KEYS  head, log, the copy, keys
-- ARGV  incarnation; how often the log was replaced, as it was when the copy was begun; how far the copy has come; then
--       of each commit that has another key: seq, key before or '', key now or ''
-- Returns 1 if it was done, 0 if there is no session of this incarnation. The error REPLACED as in `copy.lua`.

local head, log, copy, keys = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local found = redis.call('HMGET', head, 'incarnation', 'rewrites')
if found[1] ~= ARGV[1] then
  redis.call('UNLINK', copy)
  return 0
end
local newest = redis.call('XREVRANGE', copy, '+', '-', 'COUNT', 1)[1]
if (found[2] or '0') ~= ARGV[2] or not newest or newest[1] ~= ARGV[3] .. '-0' then
  redis.call('UNLINK', copy)
  return redis.error_reply('REPLACED The log is another one.')
end

local from = string.format('%.0f-0', tonumber(ARGV[3]) + 1)
for _, entry in ipairs(redis.call('XRANGE', log, from, '+')) do
  redis.call('XADD', copy, entry[1], unpack(entry[2]))
end
redis.call('UNLINK', log) -- in another thread of the server, which RENAME would not do
redis.call('RENAME', copy, log)
redis.call('HINCRBY', head, 'rewrites', 1)

local function name(key, seq)
  return #key .. ':' .. key .. ':' .. string.format('%016.0f', tonumber(seq))
end
for at = 4, #ARGV, 3 do
  local seq, before, now = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if before ~= '' then
    redis.call('ZREM', keys, name(before, seq))
  end
  if now ~= '' then
    redis.call('ZADD', keys, 0, name(now, seq))
  end
end

local left = redis.call('PTTL', head)
for _, key in ipairs({log, keys}) do
  if left >= 0 then
    redis.call('PEXPIRE', key, left)
  else
    redis.call('PERSIST', key)
  end
end
return 1
