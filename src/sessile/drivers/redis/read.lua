-- Several reading commands on keys of one slot, all of one moment.
--
-- KEYS  those of the commands
-- ARGV  for each command how many words it has, and the words
-- Returns the answers.

local answers, at = {}, 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return answers
