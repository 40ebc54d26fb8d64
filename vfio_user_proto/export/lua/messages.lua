-- Part 3 of the dissector: headers, matching replies to commands, cutting a stream into messages.

-- What vfio_user_proto/export/pcapng.py puts in front of each message.
local socket = Proto("vfio_user_socket", "vfio-user socket")
local SENDERS, OTHER = { [0] = "client", [1] = "server" }, { client = "server", server = "client" }
local ends = {
  sender = ProtoField.uint8("vfio_user_socket.sender", "Sender", base.DEC, SENDERS),
  descriptors = ProtoField.uint8("vfio_user_socket.descriptors", "Descriptors"),
  number = ProtoField.uint16("vfio_user_socket.number", "Socket"),
}
socket.fields = ends

-- Commands without their reply, by direction and ID, oldest first; and what belongs together, by place in the file.
local waiting, partners = {}, {}

function proto.init()
  waiting, partners = {}, {}
end

-- Finds the command of a reply; on the first pass only, when messages come in order.
local function match(message, is_reply, this)
  local place = string.format("%d:%d", message.pinfo.number, message.tvb:offset() + message.at)
  if message.pinfo.visited then
    return partners[place]
  end
  local own = { frame = message.pinfo.number, time = message.pinfo.rel_ts, command = this.command }
  partners[place] = own
  if not is_reply then
    if not message.no_reply then
      local key = string.format("%s:%d", message.way.forth, this.message_id)
      waiting[key] = waiting[key] or {}
      table.insert(waiting[key], own)
    end
  else
    local queue = waiting[string.format("%s:%d", message.way.back, this.message_id)]
    own.request = queue and table.remove(queue, 1)
    if own.request then
      own.request.reply = own
    end
  end
  return own
end

local function show_match(message, tree, is_reply, this)
  local own = match(message, is_reply, this)
  if not own then
    return
  elseif own.reply then
    tree:add(shown.response_in, own.reply.frame):set_generated()
  elseif own.request then
    tree:add(shown.response_to, own.request.frame):set_generated()
    local seconds = math.max(0, own.time - own.request.time)
    local time = NSTime.new(math.floor(seconds), math.floor(seconds % 1 * 1e9 + 0.5))
    tree:add(shown.response_time, time):set_generated()
    if own.request.command ~= own.command then
      note(tree, "other_command")
    end
  elseif is_reply then
    note(tree, "no_command")
  end
end

-- Shows what follows the header, by the table for command and type.
local function show_payload(message, tree, name, known)
  local at = message.payload
  if name then
    at = show_record(message, tree, name, at)
  elseif not known and at < message.stop then
    tree:add(shown.payload, message.tvb(at, message.stop - at))
    return
  end
  if at and at < message.stop then
    note(tree:add(shown.trailing, message.tvb(at, message.stop - at)), "trailing")
  end
end

-- Shows the message that begins at `at`. Returns where the next one begins, if that is known, and words on this one.
local function show_message(tvb, pinfo, root, at, way)
  local there, captured = tvb:reported_len() - at, tvb:captured_len()
  local message = { tvb = tvb, pinfo = pinfo, at = at, way = way, entries = 0, lack = "message_cut" }
  local header = RECORDS.Header
  local tree = root:add(proto, tvb(at, math.min(there, captured - at)))
  message.payload, message.ends, message.stop = at + header.size, at + there, captured
  local stop, this = show_nested(message, tree, "Header", at, header.size, header.title)
  if not stop then
    return nil, "cut header"
  end
  local size, kind = this.message_size, part(this.flags, TYPE)
  local known = COMMANDS[this.command]
  message.no_reply = part(this.flags, NO_REPLY) == 1
  local is_error, is_reply = part(this.flags, ERROR) == 1, kind == REPLY
  local words = { known and known.name or "command " .. this.command }
  if is_error then
    words[#words + 1] = "error"
  end
  words[#words + 1] = CODES.MessageType[kind] and CODES.MessageType[kind]:lower() or "type " .. kind
  words[#words] = words[#words] .. ", id " .. this.message_id
  tree:append_text(", " .. table.concat(words, " "))
  show_match(message, tree, is_reply, this)
  if not known then
    note(tree, "unknown_command", string.format("Command %d is not in the table", this.command))
  elseif way.sender and kind == COMMAND and way.sender ~= known.from then
    note(tree, "wrong_direction", string.format("The %s sends this command", known.from))
  end
  if is_error and is_reply then
    note(tree, "error_reply", string.format("The command failed: error %.0f", this.error))
    words[#words + 1] = string.format("error %.0f", this.error)
  end
  if size < header.size then
    note(tree, "message_size", string.format("The message size is %d, below that of a header", size))
    message.ends, size = at + header.size, nil
  elseif size > there then
    note(tree, "message_cut", string.format("The message size is %.0f, %d bytes are there", size, there))
  else
    message.lack = "short"
    message.ends = at + size
    tree:set_len(math.min(size, captured - at))
  end
  message.stop = math.min(message.ends, captured)
  if size then
    local table_of = kind == COMMAND and known and known.request or is_reply and not is_error and known and known.reply
    show_payload(message, tree, table_of or nil, known and (kind == COMMAND or is_reply))
  end
  return size and at + size, table.concat(words, " ")
end

-- Shows the messages in `tvb` from byte `at` on. `way` has two names, for this direction of this connection and for the
-- other one, and the side that sends in this one where that is known.
local function dissect(tvb, pinfo, root, at, way)
  local said = {}
  while at and at < tvb:captured_len() do
    at, said[#said + 1] = show_message(tvb, pinfo, root, at, way)
  end
  pinfo.cols.protocol = "vfio-user"
  pinfo.cols.info = table.concat(said, "; ")
  return tvb:captured_len()
end

function socket.dissector(tvb, pinfo, root)
  if tvb:captured_len() < 4 then
    return 0
  end
  local sender, number = SENDERS[tvb(0, 1):uint()], tvb(2, 2):uint()
  local other = OTHER[sender] or "?"
  local way = { sender = sender, forth = number .. (sender or "?"), back = number .. other }
  local tree = root:add(socket, tvb(0, 4))
  tree:add(ends.sender, tvb(0, 1))
  tree:add(ends.descriptors, tvb(1, 1))
  tree:add(ends.number, tvb(2, 2))
  pinfo.cols.src, pinfo.cols.dst = sender or "?", other
  return dissect(tvb, pinfo, root, 4, way)
end

local function length(tvb, _, offset)
  local range = tvb(offset + SIZE.offset, SIZE.size)
  return math.max(RECORDS.Header.size, proto.prefs.byte_order == 1 and range:uint() or range:le_uint())
end

function proto.dissector(tvb, pinfo, root)
  local from, to = tostring(pinfo.src) .. ":" .. pinfo.src_port, tostring(pinfo.dst) .. ":" .. pinfo.dst_port
  local way = { forth = from .. ">" .. to, back = to .. ">" .. from }
  local function one(part)
    return dissect(part, pinfo, root, 0, way)
  end
  dissect_tcp_pdus(tvb, root, RECORDS.Header.size, length, one)
  return tvb:captured_len()
end

DissectorTable.get("wtap_encap"):add(wtap_encaps.USER0, socket)
DissectorTable.get("tcp.port"):add_for_decode_as(proto)
