-- What the route says of a caller's request: percent to copy, bytes at most, the model's name and its server's name.

local function wish(handle)
  local route, arm = handle:metadata(), handle:filterContext()
  return route:get("sample"), route:get("max"), arm:get("name"), arm:get("served")
end

