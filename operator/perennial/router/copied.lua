-- A copy has the path that stable's servers want; the canary's may know the model by another name.

function envoy_on_request(handle)
  local headers = handle:headers()
  local from, to = headers:get("x-perennial-copy-from"), headers:get("x-perennial-copy-to")
  if from ~= nil and to ~= nil then
    local path = renamed(headers:get(":path"), from, to)
    if path ~= nil then
      headers:replace(":path", path)
    end
  end
end
