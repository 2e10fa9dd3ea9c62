-- Brings one entry of a brand index in line with its photo's hash. Atomic, as every writer is: whoever wrote last is
-- looked at, and no entry of a concurrent writer is lost.
-- KEYS[1] the photo's hash, KEYS[2] the brand index. ARGV: photo id, brand.
-- Returns "removed", "repaired" (the score), "fine" (meanwhile) or "unreadable" (a hash that no tagger wrote).
local hash = redis.call('HMGET', KEYS[1], 'q', 'brands', 'del')
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score then
    return 'fine'
end
local listed = false
if hash[2] and hash[3] ~= '1' then
    local readable, brands = pcall(cjson.decode, hash[2])
    if not readable or type(brands) ~= 'table' or not tonumber(hash[1]) then
        return 'unreadable'
    end
    for _, brand in ipairs(brands) do
        listed = listed or brand == ARGV[2]
    end
end
if not listed then
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 'removed'
end
if tonumber(score) == tonumber(hash[1]) then
    return 'fine'
end
redis.call('ZADD', KEYS[2], 'XX', hash[1], ARGV[1])
return 'repaired'
