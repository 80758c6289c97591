-- A session's head and its newest commits, as many as have together so many bytes.
--
-- KEYS  head, log
-- ARGV  at most so many commits, the bytes of bodies with which they end, the fields of the head
-- Returns the time, the values of the fields, and the commits, the newest first.

local left, limit = tonumber(ARGV[2]), tonumber(ARGV[1])
local rows, from, more = {}, '+', true
while more do
  local page = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', math.min(8, limit - #rows))
  for _, entry in ipairs(page) do
    rows[#rows + 1] = entry
    left = left - #(entry[2][8] or '')
    if left <= 0 then
      break
    end
  end
  more = left > 0 and #page == 8 and #rows < limit
  from = more and '(' .. page[#page][1]
end
return {redis.call('TIME'), redis.call('HMGET', KEYS[1], unpack(ARGV, 3)), rows}
