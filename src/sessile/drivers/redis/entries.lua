-- The commits of some runs.
--
-- KEYS  head, log, runs
-- ARGV  incarnation, first seq, last seq or '', at most so many, '1' for the newest first, the first and the last
--       number of a run
-- Returns the commits.

local incarnation, first, last, limit, newest_first = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local log, runs = KEYS[2], KEYS[3]

if redis.call('HGET', KEYS[1], 'incarnation') ~= incarnation then
  return {}
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
