-- wrk's script: posts the files that are named after `--` in turn (path, headers, body, ...), and
-- ends with one line of JSON.

local requests, following = {}, 0

function init(args)
  for i = 1, #args, 3 do
    local headers = {}
    for line in io.lines(args[i + 1]) do
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
    end
    local file = assert(io.open(args[i + 2], "rb"))
    requests[#requests + 1] = wrk.format("POST", args[i], headers, file:read("*a"))
    file:close()
  end
end

function request()
  following = following % #requests + 1
  return requests[following]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '{"requests_a_second": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "requests": %d, '
      .. '"refused": %d, "broken": %d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout))
end
