-- Part 1 of the dissector, behind the tables that wireshark.py writes: notes, and a field for every row and bit.

local MAX_ENTRIES = 4096 -- of arrays and lists that are shown of one message

local proto = Proto("vfio_user", "vfio-user")
proto.prefs.byte_order = Pref.enum("Byte order", 0, "The byte order of the hosts on both ends", {
  { 1, "Little endian", 0 },
  { 2, "Big endian", 1 },
}, false)

local NOTES = {
  message_size = { "The message size is below that of a header", expert.group.MALFORMED, expert.severity.ERROR },
  message_cut = { "The packet ends before the message", expert.group.MALFORMED, expert.severity.ERROR },
  short = { "The payload is shorter than its table", expert.group.MALFORMED, expert.severity.ERROR },
  trailing = { "Bytes that no table accounts for", expert.group.PROTOCOL, expert.severity.WARN },
  not_captured = { "The rest of the message was not captured", expert.group.UNDECODED, expert.severity.NOTE },
  not_shown = { "Too many entries; the rest is not shown", expert.group.UNDECODED, expert.severity.NOTE },
  error_reply = { "The command failed", expert.group.RESPONSE_CODE, expert.severity.NOTE },
  unknown_command = { "The command is not in the table", expert.group.UNDECODED, expert.severity.WARN },
  unknown_value = { "The number is not in its table", expert.group.PROTOCOL, expert.severity.NOTE },
  undefined_bits = { "Bits that no table defines are set", expert.group.PROTOCOL, expert.severity.WARN },
  wrong_direction = { "The other side sends this command", expert.group.PROTOCOL, expert.severity.WARN },
  no_command = { "No command before this asked for the reply", expert.group.SEQUENCE, expert.severity.WARN },
  other_command = { "The reply names another command than its request", expert.group.SEQUENCE, expert.severity.ERROR },
  bad_chain = { "Capabilities leave the payload or go in a circle", expert.group.MALFORMED, expert.severity.ERROR },
  bad_json = { "No JSON object with a NUL at its end", expert.group.MALFORMED, expert.severity.WARN },
}

local experts = {}
for name, note in pairs(NOTES) do
  experts[name] = ProtoExpert.new("vfio_user.note." .. name, note[1], note[2], note[3])
end
proto.experts = experts

-- Fields for the display filter: vfio_user.<record>.<field> and, for bits, vfio_user.<record>.<field>.<bit>.
local shown = {
  response_in = ProtoField.framenum("vfio_user.response_in", "Response in", base.NONE, frametype.RESPONSE),
  response_to = ProtoField.framenum("vfio_user.response_to", "Response to", base.NONE, frametype.REQUEST),
  response_time = ProtoField.relative_time("vfio_user.response_time", "Time since the command"),
  payload = ProtoField.bytes("vfio_user.payload", "Payload without a table"),
  trailing = ProtoField.bytes("vfio_user.trailing", "Bytes behind the table"),
  entry = ProtoField.bytes("vfio_user.entry", "Entry of an unknown kind"),
}

local function declare(kind, abbreviation, ...)
  local made = kind(abbreviation, ...)
  shown[abbreviation] = made
  return made
end

local UNSIGNED = { [1] = ProtoField.uint8, [2] = ProtoField.uint16, [4] = ProtoField.uint32, [8] = ProtoField.uint64 }

local function declare_field(prefix, field)
  local abbreviation, label = prefix .. "." .. field.name, field.label
  if field.records or field.strided then
    return
  elseif field.bytes then
    field.shown = declare(ProtoField.bytes, abbreviation, label)
  elseif field.flags then
    field.shown = declare(UNSIGNED[field.size], abbreviation, label, base.HEX)
    field.bits = {}
    for _, bit in ipairs(FLAGS[field.flags]) do
      local part = { low = bit.low, ones = UInt64(2 ^ bit.width - 1, 0), codes = CODES[bit.codes], label = bit.label }
      local name, mask = abbreviation .. "." .. bit.name, (2 ^ bit.width - 1) * 2 ^ bit.low
      if bit.width == 1 then
        part.shown = declare(ProtoField.bool, name, bit.label, 8 * field.size, nil, mask)
      else
        part.shown = declare(UNSIGNED[field.size], name, bit.label, base.DEC, part.codes, mask)
      end
      field.bits[#field.bits + 1] = part
    end
  else
    local form = field.size == 8 and base.HEX_DEC or base.DEC
    field.shown = declare(UNSIGNED[field.size], abbreviation, label, form, CODES[field.codes])
  end
end

for _, record in pairs(RECORDS) do
  for _, field in ipairs(record.fields) do
    declare_field(record.prefix, field)
  end
  if record.tail then
    declare_field(record.prefix, record.tail)
  end
end
proto.fields = shown
