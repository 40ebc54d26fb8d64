-- Part 2 of the dissector: showing records, arrays, lists and JSON by their tables.

local json = Dissector.get("json")

local function put(tree, field, range)
  if proto.prefs.byte_order == 1 then
    return tree:add(field, range)
  end
  return tree:add_le(field, range)
end

-- The number in some bits of a number of up to 32 bits.
local function part(value, bits)
  return math.floor(value / 2 ^ bits.low) % 2 ^ bits.width
end

local function wide(range)
  return proto.prefs.byte_order == 1 and range:uint64() or range:le_uint64()
end

local function note(tree, name, words)
  tree:add_proto_expert_info(experts[name], words or NOTES[name][1])
end

-- Says that `wanted` bytes from `at` on are not all there: the capture left them out, or the message lacks them.
local function missing(message, tree, what, at, wanted)
  local there = math.max(0, message.stop - at)
  if message.stop < message.ends then
    note(tree, "not_captured")
  else
    note(tree, message.lack, string.format("%s: %.0f bytes are due, %d are there", what, wanted, there))
  end
end

-- Each array entry and list member costs one; nil when there have been too many.
local function spend(message, tree)
  message.entries = message.entries + 1
  if message.entries <= MAX_ENTRIES then
    return true
  elseif message.entries == MAX_ENTRIES + 1 then
    note(tree, "not_shown")
  end
end

-- Shows an integer with its bits or its name, and returns it: exact up to 2^53, near enough for a comparison above.
local function show_number(tree, field, range)
  local item, value = put(tree, field.shown, range), wide(range)
  if field.bits then
    local words = {}
    for _, bit in ipairs(field.bits) do
      put(item, bit.shown, range)
      local number = math.floor(value:rshift(bit.low):band(bit.ones):tonumber())
      if bit.codes then
        words[#words + 1] = bit.codes[number] or tostring(number)
        if not bit.codes[number] then
          note(item, "unknown_value", string.format("%s %d is not in its table", bit.label, number))
        end
      elseif number ~= 0 then
        words[#words + 1] = bit.label
      end
    end
    item:append_text(" (" .. table.concat(words, ", ") .. ")")
    local undefined = value:band(UInt64(field.undefined[1], field.undefined[2]))
    if undefined ~= UInt64(0, 0) then
      note(item, "undefined_bits", "Undefined bits are set: 0x" .. undefined:tohex())
    end
  elseif field.codes and field.codes ~= "Command" and not CODES[field.codes][value:tonumber()] then
    note(item, "unknown_value", string.format("%s %.0f is not in its table", field.label, value:tonumber()))
  end
  local number = value:tonumber()
  return number < 2 ^ 53 and math.floor(number) or number
end

local show_tail

-- Shows the record `name` that begins at `at`. Returns where it ended, nil where it is cut, and its numbers by name.
local function show_record(message, tree, name, at)
  local record, this = RECORDS[name], {}
  for _, field in ipairs(record.fields) do
    local place = at + field.offset
    if place + field.size > message.stop then
      missing(message, tree, field.label, place, field.size)
      return nil, this
    end
    local range = message.tvb(place, field.size)
    if field.bytes then
      put(tree, field.shown, range)
    else
      this[field.name] = show_number(tree, field, range)
    end
  end
  if record.tail then
    return show_tail(message, tree, record.tail, at + record.size, this), this
  end
  return at + record.size, this
end

local function show_nested(message, tree, name, at, size, label)
  local subtree = tree:add(message.tvb(at, math.min(size, message.stop - at)), label)
  local stop, this = show_record(message, subtree, name, at)
  return stop, this, subtree
end

local function show_records(message, tree, field, at, this)
  local size, count = RECORDS[field.records].size, field.length(this)
  if count * size > message.stop - at then
    missing(message, tree, field.label, at, count * size)
    return nil
  end
  for index = 0, count - 1 do
    if not spend(message, tree) then
      break
    end
    local label = string.format("%s[%d]: %s", field.label, index, RECORDS[field.records].title)
    show_nested(message, tree, field.records, at + index * size, size, label)
  end
  return at + count * size
end

local function show_strided(message, tree, field, at, this)
  local count, total = field.length(this), field.strided.total(this)
  local size = count > 0 and math.floor(math.max(0, total) / count) or 0
  if size == 0 or at == message.ends then
    return at
  elseif size * count > message.stop - at then
    missing(message, tree, field.label, at, size * count)
    return nil
  end
  for index = 0, count - 1 do
    if not spend(message, tree) then
      break
    end
    local place, name = at + index * size, nil
    if size >= field.strided.selector + 4 then
      local selector = wide(message.tvb(place + field.strided.selector, 4)):tonumber()
      name = field.strided.records[string.format("%.0f:%.0f", size, selector)]
    end
    if name then
      local label = string.format("%s[%d]: %s", field.label, index, RECORDS[name].title)
      show_nested(message, tree, name, place, size, label)
    else
      tree:add(shown.entry, message.tvb(place, size))
    end
  end
  return at + size * count
end

local function show_chain(message, tree, chain, first, place)
  local header, seen = RECORDS[chain.header], {}
  while place ~= 0 do
    local at = message.payload + place
    if seen[place] or at < first or at + header.size > message.stop then
      if message.stop == message.ends then
        note(tree, "bad_chain")
      else
        note(tree, "not_captured")
      end
      return
    elseif not spend(message, tree) then
      return
    end
    seen[place] = true
    local stop, this, subtree = show_nested(message, tree, chain.header, at, header.size, "Capability")
    local kind = this[chain.selector]
    subtree:append_text(": " .. (CODES[chain.codes][kind] or kind))
    if chain.records[kind] then
      stop = show_record(message, subtree, chain.records[kind], stop)
    end
    subtree:set_len((stop or message.stop) - at)
    place = this[chain.next]
  end
end

-- What follows a wrong place in the text is shown as lines of text by Wireshark's own dissector.
local function show_json(message, tree, range)
  local text = range:raw()
  local nul = text:find("\0", 1, true)
  if nul ~= #text then
    note(tree, "bad_json", nul and "Bytes behind the NUL" or "No NUL at the end")
  end
  local size = (nul or #text + 1) - 1
  local done = size > 0 and pcall(json.call, json, range(0, size):tvb(), message.pinfo, tree)
  if not done or not text:find("^%s*{") then
    note(tree, "bad_json", "No JSON object")
  end
end

function show_tail(message, tree, field, at, this)
  if field.records then
    return show_records(message, tree, field, at, this)
  elseif field.strided then
    return show_strided(message, tree, field, at, this)
  end
  local wanted = field.length and field.length(this) or message.ends - at
  local size = math.min(wanted, message.stop - at)
  if size > 0 then
    local range = message.tvb(at, size)
    local item = tree:add(field.shown, range)
    if field.json then
      show_json(message, item, range)
    elseif field.chain then
      show_chain(message, item, field.chain, at, this[field.chain.start])
    elseif field.choice then
      local name = field.choice.records[part(this[field.choice.field], field.choice.bits)]
      if name then
        item:append_text(" (" .. RECORDS[name].title .. ")")
        return (show_record(message, item, name, at))
      end
    end
  end
  if size < wanted then
    missing(message, tree, field.label, at, wanted)
    return nil
  end
  return at + size
end
