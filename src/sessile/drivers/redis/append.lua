-- Appends commits and replaces the head, whole or not at all: compare-and-set on (incarnation, revision).
-- Everything is passed and kept as text, because Lua would round large numbers.
--
-- KEYS  head, log, runs, records, keys of one session; then, where all keys are on one server, the hash of places and
--       the sorted sets that may list the session
-- ARGV  session id, incarnation, expected revision, when the keys go in milliseconds or '', how long they stay at
--       least, channel to announce the commit on or ''; number of commits, and seq, id, run, time, body, key
--       or '' of each; number of head fields that have a value, and name, value of each; number of those that have
--       none, and their names; then the session's place or '', and its score in each sorted set or ''
-- Returns 1 if it was done, 0 if the race was lost.

local head, log, runs, records, keys = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local at = 0
local function take(count)
  at = at + (count or 1)
  return ARGV[at]
end

local id, incarnation, expected = take(), take(), take()
local gone_at, grace, channel = take(), take(), take()

local found = redis.call('HMGET', head, 'incarnation', 'revision', 'expires_at')
local create = expected == '0'
if create and found[1] then
  return 0
elseif not create and (found[1] ~= incarnation or found[2] ~= expected) then
  return 0
end

if create and redis.call('EXISTS', log, runs, records, keys) > 0 then
  redis.call('UNLINK', log, runs, records, keys) -- somebody has removed a head by hand
end
local revision
for number = 1, tonumber(take()) do
  local seq, commit_id, run, time, body, key = take(), take(), take(), take(), take(), take()
  local entry = {seq .. '-0', 'commit_id', commit_id, 'run', run, 'time', time, 'body', body}
  if key ~= '' then
    entry[10], entry[11] = 'key', key
  end
  if create and number == 1 then
    redis.call('XADD', log, unpack(entry))
  elseif not redis.call('XADD', log, 'NOMKSTREAM', unpack(entry)) then
    return redis.error_reply('LOGLOST The session has a head, and no log.')
  end
  if key ~= '' then -- its length comes first, so that no key's commits stand among those of another one
    redis.call('ZADD', keys, 0, #key .. ':' .. key .. ':' .. string.format('%016.0f', tonumber(seq)))
  end
  if run ~= '0' then
    redis.call('ZADD', runs, run, seq)
  end
  revision = seq
end

local fields = 2 * tonumber(take())
redis.call('HSET', head, unpack(ARGV, at + 1, at + fields))
take(fields)
local absent = tonumber(take())
if absent > 0 then
  redis.call('HDEL', head, unpack(ARGV, at + 1, at + absent))
  take(absent)
end

if gone_at ~= '' then
  local now = redis.call('TIME')
  local soonest = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(grace)
  if tonumber(gone_at) < soonest then
    gone_at = string.format('%.0f', soonest)
  end
  for number = 1, 5 do
    redis.call('PEXPIREAT', KEYS[number], gone_at)
  end
elseif found[3] then
  for number = 1, 5 do
    redis.call('PERSIST', KEYS[number])
  end
end

if #KEYS > 5 then
  local place = take()
  if place == '' then
    redis.call('HDEL', KEYS[6], id)
  else
    redis.call('HSET', KEYS[6], id, place)
  end
end
for number = 7, #KEYS do
  local score = take()
  if score == '' then
    redis.call('ZREM', KEYS[number], id)
  else
    redis.call('ZADD', KEYS[number], score, id)
  end
end

if channel ~= '' then
  redis.pcall('PUBLISH', channel, revision) -- a user who may not publish still commits; followers then look later
end
return 1
