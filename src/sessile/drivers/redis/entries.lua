-- A span of a session's log.
--
-- KEYS  head, log, runs
-- ARGV  incarnation, first seq, last seq or '', at most so many, '1' for the newest first; then, for commits of some
--       runs only, the first and the last number of a run
-- Returns the commits.

local incarnation, first, last, limit, newest_first = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local log, runs = KEYS[2], KEYS[3]

if redis.call('HGET', KEYS[1], 'incarnation') ~= incarnation then
  return {}
end

if not ARGV[6] then
  local low, high = first .. '-0', last == '' and '+' or last .. '-0'
  if newest_first then
    return redis.call('XREVRANGE', log, high, low, 'COUNT', limit)
  end
  return redis.call('XRANGE', log, low, high, 'COUNT', limit)
end

-- The numbers of these runs' commits are few and small beside the commits themselves.
local seqs = {}
local low, high = tonumber(first), last == '' and math.huge or tonumber(last)
for _, text in ipairs(redis.call('ZRANGEBYSCORE', runs, ARGV[6], ARGV[7])) do
  local seq = tonumber(text)
  if low <= seq and seq <= high then
    seqs[#seqs + 1] = seq
  end
end
table.sort(seqs, function(a, b)
  if newest_first then
    return a > b
  end
  return a < b
end)

local rows = {}
for number = 1, math.min(limit, #seqs) do
  local id = string.format('%.0f-0', seqs[number])
  rows[number] = redis.call('XRANGE', log, id, id)[1]
end
return rows
