-- Copies a part of a session's log to another key, with other bodies in the place of some: an entry of a stream cannot
-- be changed, and one that is deleted keeps its bytes. Only so much at a time that the server is held up by nobody.
--
-- KEYS  head, log, the copy
-- ARGV  incarnation; how often the log was replaced, as it was when the copy was begun, or '' to begin one; how far the
--       copy has come; at most so many bytes; how long the copy stays when nobody continues it, in milliseconds; up to
--       which seq, or ''; then seq, id, run, time, body, key or '' of each commit that changes, by ascending seq
-- Returns how often the log was replaced, the seq of the last commit that was copied, whether that is the log's last,
-- and seq and key or '' of each that had another key than it has now. Nothing if one of the commits is not in the log.
-- The error REPLACED if somebody else has replaced the log meanwhile, or the copy is not what it was.

local head, log, copy = KEYS[1], KEYS[2], KEYS[3]
local found = redis.call('HMGET', head, 'incarnation', 'rewrites')
local rewrites = found[2] or '0'
if found[1] ~= ARGV[1] then
  return {}
elseif ARGV[2] ~= '' and ARGV[2] ~= rewrites then
  return redis.error_reply('REPLACED The log is another one.')
end

local changes, last_change = {}, 0
for at = 7, #ARGV, 6 do
  changes[ARGV[at]] = at
  last_change = tonumber(ARGV[at])
end

local function last_of(stream, otherwise)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return newest and tonumber(string.match(newest[1], '^%d+')) or otherwise
end

local copied, log_end = last_of(copy, 0), last_of(log, 0)
if copied ~= tonumber(ARGV[3]) then
  return redis.error_reply('REPLACED The copy is gone.')
elseif last_change > log_end then
  return {}
end

local other_keys, bytes = {}, 0
local last = ARGV[6] == '' and log_end or math.min(log_end, tonumber(ARGV[6]))
while bytes < tonumber(ARGV[4]) and copied < last do
  local from = string.format('%.0f-0', copied + 1)
  for _, entry in ipairs(redis.call('XRANGE', log, from, string.format('%.0f-0', last), 'COUNT', 10)) do
    local seq, fields = string.match(entry[1], '^%d+'), entry[2]
    local at = changes[seq]
    if at then
      local id, run, time, body, key = unpack(ARGV, at + 1, at + 5)
      if fields[2] ~= id or fields[4] ~= run or fields[6] ~= time then
        return {}
      end
      local old_key = fields[10] or ''
      fields = {'commit_id', id, 'run', run, 'time', time, 'body', body}
      if key ~= '' then
        fields[9], fields[10] = 'key', key
      end
      if key ~= old_key then
        other_keys[#other_keys + 1], other_keys[#other_keys + 2] = seq, old_key
      end
    end
    redis.call('XADD', copy, entry[1], unpack(fields))
    copied, bytes = tonumber(seq), bytes + 200 + #fields[8]
  end
end
redis.call('PEXPIRE', copy, ARGV[5])
return {rewrites, string.format('%.0f', copied), copied == log_end and '1' or '0', other_keys}
