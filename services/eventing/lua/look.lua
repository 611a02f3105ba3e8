-- Return body and ticket of KEYS[1]. A miss that has no ticket gets ARGV[1], good for ARGV[2] seconds.
local found = redis.call('HMGET', KEYS[1], 'body', 'ticket')
if not found[1] and not found[2] then
    redis.call('HSET', KEYS[1], 'ticket', ARGV[1])
    if redis.call('TTL', KEYS[1]) < 0 then -- with a floor the entry lives longer, and has its time already
        redis.call('EXPIRE', KEYS[1], ARGV[2])
    end
    found[2] = ARGV[1]
end
return found
