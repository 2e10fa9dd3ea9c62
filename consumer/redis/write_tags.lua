-- Writes one photo's tags or tombstone, and keeps the brand indexes in step, if the version allows it.
-- KEYS[1] the photo's hash, then the brand indexes: those of the new brands, and those that the caller was told of.
-- ARGV: photo id, index prefix, version, quality, brands as a JSON list, then the hash's fields and values, `ver` first.
-- Returns {outcome, fields and values in force...}: "written", "unchanged" (same version) or "superseded" (newer
-- there); or {"undeclared", index keys...}: nothing was done, call again with these too.
--
-- A slot that moves to another node splits its keys between the two. Redis runs a script there only where all declared
-- keys are, and then refuses what is not: so every key is declared, and none may vanish before its last write.
local key, photo_id, index_prefix, version = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local current = redis.call('HMGET', key, 'ver', 'brands')
if current[1] and version <= current[1] then
    local outcome = version == current[1] and 'unchanged' or 'superseded'
    return {outcome, unpack(redis.call('HGETALL', key))}
end
local declared, stays, gone, undeclared = {}, {}, {}, {'undeclared'}
for place = 2, #KEYS do
    declared[KEYS[place]] = true
end
local brands = cjson.decode(ARGV[5])
for _, brand in ipairs(brands) do
    stays[brand] = true
end
for _, brand in ipairs(current[2] and cjson.decode(current[2]) or {}) do
    if not declared[index_prefix .. brand] then
        table.insert(undeclared, index_prefix .. brand)
    elseif not stays[brand] then
        table.insert(gone, index_prefix .. brand)
    end
end
if #undeclared > 1 then
    return undeclared
end
-- HSET is the first write: Redis checks its memory limit there and refuses the script as a whole. After another write,
-- an HDEL or ZREM, it would let the rest pass beyond the limit.
local old = redis.call('HKEYS', key)
redis.call('HSET', key, unpack(ARGV, 6))
if #old > 0 then
    -- Written anew, so that no old field stays and the stored bytes depend on the newest version alone, not on what
    -- was there before: a Redis that was rebuilt from the result topic is the same, byte for byte.
    for _, field in ipairs(old) do
        if field ~= 'ver' then
            redis.call('HDEL', key, field)
        end
    end
    redis.call('HSET', key, unpack(ARGV, 6))
    redis.call('PERSIST', key)
end
for _, index in ipairs(gone) do
    redis.call('ZREM', index, photo_id)
end
for _, brand in ipairs(brands) do
    redis.call('ZADD', index_prefix .. brand, ARGV[4], photo_id)
end
return {'written'}
