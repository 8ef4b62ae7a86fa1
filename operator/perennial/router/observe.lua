-- Puts a server's own name for its model into the path, where the arm of the route says so; and
-- copies what a model was asked and what it answered into dynamic metadata, for the access-log service to count.
-- Bodies are read by bodyChunks(), never by body(): that one buffers, refuses large bodies and holds streams back.
-- They are base64-encoded because metadata strings end at the first NUL byte.
-- Namespace "perennial": q, r = bodies; qh, rh = JSON lengths of the binary tensor extension; g = gRPC;
-- t = a body was longer than the limit; s = a stream; n = not to be binned. Namespace "perennial.m": m = the limit.

local function copied(handle, limit)
  local parts, total = {}, 0
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 and total <= limit then
      if total + length <= limit then
        parts[#parts + 1] = chunk:getBytes(0, length)
      end
    end
    total = total + length
  end
  if total > limit then
    return nil
  end
  return table.concat(parts)
end

-- Objects of the Envoy API are only good until the script has waited for a body, so each note asks for them again.
local function note(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("perennial", key, value)
end

local function ends_with(text, suffix)
  return string.sub(text, -#suffix) == suffix
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local share, limit, name, served = wish(handle)
  if served ~= nil then
    local path = renamed(headers:get(":path"), name, served)
    if path ~= nil then
      headers:replace(":path", path)
    end
  end
  if headers:get(":method") ~= "POST" then
    return
  end
  if share == nil or share <= 0 then
    return
  end
  if headers:get("x-perennial-observe") == "none" then
    note(handle, "n", true)
    return
  end
  if share < 100 and math.random() * 100 >= share then
    return
  end
  local path = string.match(headers:get(":path"), "^[^?]*")
  local grpc = starts_with(headers:get("content-type"), "application/grpc")
  if not (grpc or ends_with(path, "/infer") or ends_with(path, ":predict") or ends_with(path, "_stream")) then
    return
  end
  if ends_with(path, "_stream") or (grpc and not ends_with(path, "/ModelInfer")) then
    note(handle, "s", true)
    return
  end
  handle:streamInfo():dynamicMetadata():set("perennial.m", "m", limit)
  if grpc then
    note(handle, "g", true)
  end
  local json_length = headers:get("inference-header-content-length")
  if json_length ~= nil then
    note(handle, "qh", json_length)
  end
  local body = copied(handle, limit)
  if body == nil then
    note(handle, "t", true)
  else
    note(handle, "q", handle:base64Escape(body))
  end
end

function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("perennial.m")
  if noted == nil then
    return
  end
  local limit = noted["m"]
  local headers = handle:headers()
  if string.sub(headers:get(":status"), 1, 1) ~= "2" then
    return
  end
  if starts_with(headers:get("content-type"), "text/event-stream") then
    note(handle, "s", true)
    return
  end
  local json_length = headers:get("inference-header-content-length")
  if json_length ~= nil then
    note(handle, "rh", json_length)
  end
  local body = copied(handle, limit)
  if body == nil then
    note(handle, "t", true)
  else
    note(handle, "r", handle:base64Escape(body))
  end
end
