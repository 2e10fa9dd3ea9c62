-- Brings one entry of an index in line with its photo's hash. Atomic, as every writer is: whoever wrote last is looked
-- at, and no entry of a concurrent writer is lost.
-- KEYS[1] the photo's hash, KEYS[2] the index. ARGV: photo id, and the brand of the index; none for that of good photos.
-- Returns "removed", "repaired" (the score), "fine" (meanwhile) or "unreadable" (no hash that a tagger wrote).
local kind = redis.call('TYPE', KEYS[1]).ok
if redis.call('TYPE', KEYS[2]).ok ~= 'zset' then
    return 'fine'
elseif kind ~= 'hash' and kind ~= 'none' then
    return 'unreadable'
end
local hash = redis.call('HMGET', KEYS[1], 'q', 'brands', 'del', 'qg')
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score then
    return 'fine'
end
local listed, quality = false, tonumber(hash[1] or '')
if hash[2] and hash[3] ~= '1' then
    local readable, brands = pcall(cjson.decode, hash[2])
    if not readable or type(brands) ~= 'table' or not (quality and quality >= 0 and quality <= 1) then
        return 'unreadable'
    end
    for _, brand in ipairs(brands) do
        listed = listed or brand == ARGV[2]
    end
    listed = listed or (not ARGV[2] and hash[4] == '1')
end
if not listed then
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 'removed'
end
if tonumber(score) == quality then
    return 'fine'
end
redis.call('ZADD', KEYS[2], 'XX', string.format('%.17g', quality), ARGV[1])
return 'repaired'
