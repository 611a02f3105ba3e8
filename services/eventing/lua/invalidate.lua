-- Drop the body of KEYS[1] unless it is of version ARGV[1] or later; an empty version drops it in any case.
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor') or '0')
if ARGV[1] ~= '' then
    if tonumber(ARGV[1]) < floor or (tonumber(ARGV[1]) == floor and redis.call('HEXISTS', KEYS[1], 'body') == 1) then
        return 0
    end
    redis.call('HSET', KEYS[1], 'floor', ARGV[1])
end
redis.call('HDEL', KEYS[1], 'body')
redis.call('HINCRBY', KEYS[1], 'ticket', 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
