-- Drop the body of KEYS[1] unless version ARGV[1] is known already; an empty version drops it in any case.
-- The ticket goes with it: a reader that holds it has read what is now outdated. The floor lives ARGV[2] seconds.
if ARGV[1] ~= '' then
    if tonumber(ARGV[1]) <= tonumber(redis.call('HGET', KEYS[1], 'floor') or '0') then
        return 0
    end
    redis.call('HSET', KEYS[1], 'floor', ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
redis.call('HDEL', KEYS[1], 'body', 'ticket')
return 1
