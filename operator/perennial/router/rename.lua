-- For both scripts: a server's own name for its model in the path.

local function starts_with(text, prefix)
  return text ~= nil and string.sub(text, 1, #prefix) == prefix
end

-- The path with the server's name for the model in place of the deployment's; nil when it does not name that one.
local function renamed(path, name, served)
  for _, front in ipairs({ "/v2/models/", "/v1/models/" }) do
    if starts_with(path, front .. name) then
      local rest = string.sub(path, #front + #name + 1)
      if rest == "" or string.find(rest, "^[/?:]") then
        return front .. served .. rest
      end
    end
  end
  return nil
end

