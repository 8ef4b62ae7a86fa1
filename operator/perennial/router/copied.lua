-- What the route of the original says of a copy, in headers, since it has left that route. Its path is the one that
-- stable's servers want; the canary's may know the model by another name.

local function wish(handle)
  local headers = handle:headers()
  local share, limit = headers:get("x-perennial-copy-sample"), headers:get("x-perennial-copy-max")
  local name, served = headers:get("x-perennial-copy-from"), headers:get("x-perennial-copy-to")
  return tonumber(share), tonumber(limit), name, served
end

