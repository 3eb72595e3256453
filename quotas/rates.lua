-- One decision over every window of every subject of a call; or the tokens that subjects have used in the end.
--
-- KEYS     the counters of each subject; then what may have changed since the limits were read; then what is only asked for
-- ARGV[1]  now (ms), requests to let in (0 or 1), how many subjects, how many things that may have changed; then for each
--          subject the tokens to add; then for each subject how many windows it has, and of each its size (ms; negative: of
--          tokens) and its limit. What is kept of a window are that size, its number since 1970, and the counts of the
--          window before and of this one. All of these are packed doubles.
-- ARGV[2…] what the second part of KEYS says, unless it says nothing, if the limits are still what they were
-- Answers the decision, and then what the last part of KEYS says. The decision is nothing if the limits are not what they
-- were. Else it is 1 or 0 (let in or not), and for each window the time gone since it began (ms) and both counts, all
-- before this call. What is refused, counts nowhere.

local function format(count)
    return '<' .. string.rep('d', count)
end

local function numbers(text)
    return {struct.unpack(format(#text / 8), text)}
end

local given, found = numbers(ARGV[1]), redis.call('MGET', unpack(KEYS))
local now, requests, subjects, versions = given[1], given[2], given[3], given[4]
for at = 1, versions do
    if found[subjects + at] and found[subjects + at] ~= ARGV[1 + at] then
        return {false, unpack(found, subjects + versions + 1, #KEYS)}
    end
end

local answer, new, longest, n, at = {1}, {}, {}, 1, 5 + subjects
for subject = 1, subjects do
    local kept = found[subject] and numbers(found[subject]) or {}
    local windows, most, last = {}, 0, 4 * given[at]
    for m = 0, last - 1, 4 do
        local code, limit = given[at + 1], given[at + 2]
        local size, added = code, requests
        if code < 0 then
            size, added = -code, given[4 + subject]
        end
        local index, before, current = math.floor(now / size), 0, 0
        if kept[m + 1] == code then
            local number = kept[m + 2]
            if number == index or number == index + 1 then -- the latter: another process's clock is ahead of ours
                index, before, current = number, kept[m + 3], kept[m + 4]
            elseif number == index - 1 then
                before = kept[m + 4]
            end
        end
        local gone = math.max(0, now - index * size)
        if requests > 0 and math.floor(before * (size - gone) / size) + current >= limit then
            answer[1] = 0
        end
        answer[n + 1], answer[n + 2], answer[n + 3] = gone, before, current
        windows[m + 1], windows[m + 2], windows[m + 3], windows[m + 4] = code, index, before, current + added
        n, at, most = n + 3, at + 2, math.max(most, size)
    end
    new[subject], longest[subject], at = windows, most, at + 1
end

if answer[1] == 1 then
    for subject = 1, subjects do
        local windows = new[subject]
        redis.call('SET', KEYS[subject], struct.pack(format(#windows), unpack(windows)), 'PX', 2 * longest[subject])
    end
end
return {answer, unpack(found, subjects + versions + 1, #KEYS)}
