-- Writes one photo's tags or tombstone, and keeps the indexes in step, if the version allows it.
-- KEYS[1] the photo's hash, then what the new tags need: the index of good photos, the brand indexes, the set of names;
-- and those that the caller was told of.
-- ARGV: photo id, index prefix, "keep" or "restore" (what an equal version does with a hash that has other content),
-- then the hash's fields and values.
-- Returns {outcome, {fields and values in force}}: "written" (with none, they are those of the call), "unchanged" (the
-- same is there), "mended" (it was, but the hash or an index was damaged) or "superseded" (newer there). Or, where
-- nothing was done:
--   {"undeclared", index keys...}: call again with these too;
--   {"wrong type", key, type}: somebody else's key is in the place of the hash or of an index of these brands.
--
-- A slot that moves to another node splits its keys between the two. Redis runs a script there only where all declared
-- keys are, and then refuses what is not: so every key is declared, and none may vanish before its last write.
local key, photo_id, index_prefix, restores = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == 'restore'
local FIELDS = {'ver', 'del', 'q', 'qc', 'qg', 'brands', 'bs', 'm', 't', 'src'}
local DECIDED = {'del', 'q', 'qc', 'qg', 'brands', 'bs', 'm'}
local FORM = '^%d%d%d%d%d%d%d%d%d%d%d%d%d%.%d%d%d%d%d%d%.%d%d%d%d%d%d%d%d%d%d%d%d%d$'
-- Such as "q:{15}", and the names of the brands that have an index in this bucket: "n:{15}".
local tag = string.sub(index_prefix, 2, -2)
local good_index, name_set = 'q' .. tag, 'n' .. tag

local function type_of(name)
    return redis.call('TYPE', name).ok
end

-- The names in a field; none where it cannot be read, and then the sweep finds what they left in the indexes.
local function brands_in(text)
    if not text or text == '[]' then
        return {}
    end
    local readable, names = pcall(cjson.decode, text)
    local found = {}
    for _, name in ipairs(readable and type(names) == 'table' and names or {}) do
        if type(name) == 'string' then
            table.insert(found, name)
        end
    end
    return found
end

-- The score of a photo in the indexes; nil where it has none.
local function score_in(text)
    local score = tonumber(text or '')
    return score and score >= 0 and score <= 1 and score or nil
end

local function place_in(text)
    local log, offset = string.match(text or '', '^(.*/%d+)/(%d+)$')
    return log, tonumber(offset or '')
end

local function equal(one, other, fields)
    for _, field in ipairs(fields) do
        if one[field] ~= other[field] then
            return false
        end
    end
    return true
end

local new, old, exists = {}, {}, type_of(key)
for place = 4, #ARGV, 2 do
    new[ARGV[place]] = ARGV[place + 1]
end
if exists ~= 'hash' and exists ~= 'none' then
    return {'wrong type', key, exists}
end
exists = exists == 'hash'
if exists then
    for place, value in ipairs(redis.call('HMGET', key, unpack(FIELDS))) do
        old[FIELDS[place]] = value or nil
    end
end

-- Two contents of a photo may have one version: then the later record of the same partition decides, unless it says the
-- same, as a duplicate does. Without a version that can be compared, the hash is damaged and is replaced.
local function verdict()
    if not string.find(old.ver or '', FORM) or new.ver > old.ver then
        return 'written'
    elseif new.ver < old.ver then
        return 'superseded'
    end
    local own_log, own_offset = place_in(new.src)
    local log, offset = place_in(old.src)
    local same, tags = equal(new, old, DECIDED), new.del ~= '1' and old.del ~= '1'
    if tags and own_log and own_log == log and own_offset ~= offset then
        if own_offset < offset then
            return same and 'unchanged' or 'superseded'
        end
        return same and not restores and 'unchanged' or 'written'
    end
    local whole = equal(new, old, FIELDS) and redis.call('HLEN', key) == (#ARGV - 3) / 2
    return restores and not whole and 'mended' or 'unchanged'
end

local function present(fields)
    local pairs_of = {}
    for _, field in ipairs(FIELDS) do
        if fields[field] then
            table.insert(pairs_of, field)
            table.insert(pairs_of, fields[field])
        end
    end
    return pairs_of
end

local outcome = verdict()
if outcome == 'superseded' then
    return {outcome, present(old)}
end
local rewrites = outcome == 'written' or outcome == 'mended'
local holds = rewrites and new or old
local score = holds.del ~= '1' and score_in(holds.q) or nil
local declared, stays, undeclared = {}, {}, {'undeclared'}
for place = 2, #KEYS do
    declared[KEYS[place]] = true
end
if score and holds.qg == '1' then
    stays[good_index] = good_index
end
for _, brand in ipairs(score and brands_in(holds.brands) or {}) do
    stays[index_prefix .. brand] = brand
end
for _, brand in ipairs(brands_in(old.brands)) do
    if not declared[index_prefix .. brand] then
        table.insert(undeclared, index_prefix .. brand)
    end
end
if old.qg == '1' and not declared[good_index] then
    table.insert(undeclared, good_index)
end
if #undeclared > 1 then
    return undeclared
end
-- A name is noted with the first entry of its index, and by what restores: so that costs nothing later on.
local declares_names = declared[name_set]
declared[name_set] = nil
local gone, names = {}, {}
for index in pairs(declared) do
    -- A photo without a hash has no entries.
    local kind = (stays[index] or exists) and type_of(index) or 'none'
    if stays[index] and kind ~= 'zset' and kind ~= 'none' then
        return {'wrong type', index, kind}
    elseif not stays[index] and kind == 'zset' then
        table.insert(gone, index)
    elseif stays[index] and index ~= good_index and (kind == 'none' or restores) then
        table.insert(names, stays[index])
    end
end
if #names > 0 then
    local kind = declares_names and type_of(name_set) or 'none'
    if not declares_names then
        return {'undeclared', name_set}
    elseif kind ~= 'set' and kind ~= 'none' then
        return {'wrong type', name_set, kind}
    end
end

-- From here on only a refusal of Redis itself ends the script (its memory limit, a command that the user may not call).
-- The hash gets its new version last: so whatever was refused, the repeat does not take the photo for written.
-- The first write must be one that Redis checks its memory limit for, as it does not for HDEL or ZREM: it then refuses
-- the script as a whole, and after another write it would let the rest pass beyond the limit.
if rewrites and exists then
    redis.call('HSET', key, 'ver', old.ver or '')
end
local mended = outcome == 'unchanged' and 'mended' or outcome
local member = next(stays) and string.format('%.17g', score)
for index in pairs(stays) do
    if rewrites or tonumber(redis.call('ZSCORE', index, photo_id) or '') ~= score then
        redis.call('ZADD', index, member, photo_id)
        outcome = mended
    end
end
for _, name in ipairs(names) do
    if redis.call('SISMEMBER', name_set, name) == 0 then
        redis.call('SADD', name_set, name)
        outcome = mended
    end
end
for _, index in ipairs(gone) do
    if redis.call('ZREM', index, photo_id) == 1 then
        outcome = mended
    end
end
-- Another program may have set a lifetime, which would end a photo in silence. Like HDEL, PERSIST is no first write;
-- where it has nothing to do, it is not asked for: a repeat needs no right to write. The index of good photos is looked
-- at when a photo is written again: for a new one that would be a tenth of the cost.
for index in pairs(stays) do
    if (exists or index ~= good_index) and redis.call('PTTL', index) >= 0 and redis.call('PERSIST', index) == 1 then
        outcome = mended
    end
end
if exists and redis.call('PTTL', key) >= 0 and redis.call('PERSIST', key) == 1 then
    outcome = mended
end
if rewrites then
    -- Written anew, so that no old field stays and the stored bytes depend on the newest version alone, not on what
    -- was there before: a Redis that was rebuilt from the result topic is the same, byte for byte.
    local fields = {}
    for _, field in ipairs(exists and redis.call('HKEYS', key) or {}) do
        if field ~= 'ver' then
            table.insert(fields, field)
        end
    end
    -- Lua has room for some thousand arguments; a hash of another program may have more fields.
    for first = 1, #fields, 1000 do
        redis.call('HDEL', key, unpack(fields, first, math.min(first + 999, #fields)))
    end
    redis.call('HSET', key, unpack(ARGV, 4))
    return {outcome, outcome == 'written' and {} or present(new)}
end
return {outcome, present(old)}
