-- Fill KEYS[1] with body ARGV[1] of version ARGV[2], if ticket ARGV[3] is still good; lives ARGV[4] seconds.
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor') or '0')
local ticket = redis.call('HGET', KEYS[1], 'ticket') or '0'
if ticket ~= ARGV[3] or tonumber(ARGV[2]) < floor then
    return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'floor', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
