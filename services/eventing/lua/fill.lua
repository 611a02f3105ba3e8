-- Fill KEYS[1] with body ARGV[1] of version ARGV[2], if ticket ARGV[3] is still good; lives ARGV[4] seconds.
local known = redis.call('HMGET', KEYS[1], 'ticket', 'floor')
if known[1] ~= ARGV[3] or tonumber(ARGV[2]) < tonumber(known[2] or '0') then
    return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'floor', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
