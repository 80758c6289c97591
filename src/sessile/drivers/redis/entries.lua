-- The commits of some runs, or of a key, or of both; or all of them, as many as have together so many bytes.
--
-- KEYS  head, log, runs, keys
-- ARGV  incarnation, first seq, last seq or '', at most so many, '1' for the newest first, the first and the last
--       number of a run or '' and '', the key or '', the bytes of bodies with which they end or ''
-- Returns the commits.

local incarnation, first, last, limit, newest_first = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local first_run, last_run, key, left = ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '' and 2^53 or tonumber(ARGV[9])
local log, runs, keys = KEYS[2], KEYS[3], KEYS[4]
local PAGE = 10 -- how many are looked at at once, of which those after the last byte are dropped

if redis.call('HGET', KEYS[1], 'incarnation') ~= incarnation then
  return {}
end

local low, high = tonumber(first), last == '' and 2^53 or tonumber(last)

local function in_runs(seq)
  if first_run == '' then
    return true
  end
  local run = tonumber(redis.call('ZSCORE', runs, string.format('%.0f', seq)) or 0)
  return tonumber(first_run) <= run and run <= tonumber(last_run)
end

-- The numbers of these commits are few and small beside the commits themselves.
local function of_key()
  local name = #key .. ':' .. key .. ':'
  local range = {keys, '[' .. name .. string.format('%016.0f', low), '[' .. name .. string.format('%016.0f', high)}
  if newest_first then
    range[2], range[3] = range[3], range[2]
  end
  if first_run == '' then
    range[4], range[5], range[6] = 'LIMIT', 0, limit
  end
  local seqs = {}
  for _, member in ipairs(redis.call(newest_first and 'ZREVRANGEBYLEX' or 'ZRANGEBYLEX', unpack(range))) do
    local seq = tonumber(string.sub(member, #name + 1))
    if in_runs(seq) then
      seqs[#seqs + 1] = seq
    end
  end
  return seqs
end

local function of_runs()
  local seqs = {}
  for _, text in ipairs(redis.call('ZRANGEBYSCORE', runs, first_run, last_run)) do
    local seq = tonumber(text)
    if low <= seq and seq <= high then
      seqs[#seqs + 1] = seq
    end
  end
  return seqs
end

local rows = {}

-- Whether more is asked for than this one and those before it.
local function take(entry)
  rows[#rows + 1] = entry
  left = left - #(entry[2][8] or '')
  return #rows < limit and left > 0
end

if key == '' and first_run == '' then
  local command, from, to = 'XRANGE', string.format('%.0f-0', low), last == '' and '+' or string.format('%.0f-0', high)
  if newest_first then
    command, from, to = 'XREVRANGE', to, from
  end
  local more = limit > 0
  while more do
    local page = redis.call(command, log, from, to, 'COUNT', math.min(PAGE, limit - #rows))
    for _, entry in ipairs(page) do
      more = more and take(entry)
    end
    more = more and #page == PAGE
    from = more and '(' .. page[#page][1]
  end
  return rows
end

local seqs = key ~= '' and of_key() or of_runs()
table.sort(seqs, function(a, b)
  if newest_first then
    return a > b
  end
  return a < b
end)

for number = 1, math.min(limit, #seqs) do
  local id = string.format('%.0f-0', seqs[number])
  local entry = redis.call('XRANGE', log, id, id)[1] -- none, if somebody has removed it by hand
  if entry and not take(entry) then
    break
  end
end
return rows
