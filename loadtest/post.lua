-- wrk's script: posts the files that are named after `--` in turn (path, headers, body, ...), and
-- ends with one line of JSON. With PAUSE_MS in the environment each connection rests so long before
-- it sends again, and answers are counted by status: that takes wrk some time of its own.

local requests, following = {}, 0
local pause, thread = tonumber(os.getenv("PAUSE_MS")), nil
statuses = ""

function setup(t)
  thread = t
end

if pause then
  local counts = {}

  function delay()
    return pause
  end

  function response(status)
    counts[status] = (counts[status] or 0) + 1
    local said = {}
    for code, n in pairs(counts) do
      said[#said + 1] = string.format('"%d": %d', code, n)
    end
    statuses = table.concat(said, ", ")
  end
end

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
    '{"requests_a_second": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, '
      .. '"requests": %d, "refused": %d, "broken": %d, "statuses": {%s}}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.requests, e.status, e.connect + e.read + e.write + e.timeout, thread:get("statuses")))
end
