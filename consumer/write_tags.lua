-- Writes one photo's tags or tombstone, and keeps the brand indexes in step, if the version allows it.
-- KEYS[1] the photo's hash. The index keys are derived from ARGV[2]: they share the hash tag, hence the cluster slot.
-- ARGV: photo id, index prefix, version, quality, brands as a JSON list, then the hash's fields and values.
-- Returns {outcome, fields and values in force...}: "written", "unchanged" (same version) or "superseded" (newer there).
local key, photo_id, index_prefix, version = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local current = redis.call('HMGET', key, 'ver', 'brands')
if current[1] and version <= current[1] then
    local outcome = version == current[1] and 'unchanged' or 'superseded'
    return {outcome, unpack(redis.call('HGETALL', key))}
end
-- HSET is the first write: Redis checks its memory limit there and refuses the script as a whole. After another write,
-- a DEL or ZREM, it would let the rest pass beyond the limit.
local present = redis.call('EXISTS', key) == 1
redis.call('HSET', key, unpack(ARGV, 6))
if present then
    -- Written anew, so that no old field stays and the stored bytes depend on the newest version alone, not on what
    -- was there before: a Redis that was rebuilt from the result topic is the same, byte for byte.
    redis.call('DEL', key)
    redis.call('HSET', key, unpack(ARGV, 6))
end
if current[2] then
    for _, brand in ipairs(cjson.decode(current[2])) do
        redis.call('ZREM', index_prefix .. brand, photo_id)
    end
end
for _, brand in ipairs(cjson.decode(ARGV[5])) do
    redis.call('ZADD', index_prefix .. brand, ARGV[4], photo_id)
end
return {'written'}
