-- PUTs with five attributes each for random users, made once so that the load generator costs little while it measures.
local users = tonumber(os.getenv("BENCH_USERS"))
local first = tonumber(os.getenv("BENCH_FIRST_CUID"))
local headers = { ["Content-Type"] = "application/json" }
local authorizations = {}
for each in os.getenv("BENCH_AUTHORIZATION"):gmatch("[^,]+") do
  authorizations[#authorizations + 1] = each
end
local method, path = os.getenv("BENCH_METHOD"), os.getenv("BENCH_PATH")
local keyed = os.getenv("BENCH_KEYS") == "1"
local requests, next_request, sent = {}, 0, 0
local run = ""

function init()
  math.randomseed(os.time())
  if keyed then
    run = string.format("%d-%d-", os.time(), math.random(0, 10 ^ 9))
    headers["Idempotency-Key"] = "KEY"
  end
  for i = 1, 50000 do
    local body = string.format(
      '{"cuid":%d,"data":{"age":%d,"total_spent":%d.%02d,"city":"city-%d","last_seen":"2026-%02d-%02d %02d:%02d:%02d","interests":["tag-%d"]}}',
      first + math.random(0, users - 1), math.random(10, 90), math.random(0, 500), math.random(0, 99), math.random(0, 9999),
      math.random(1, 12), math.random(1, 28), math.random(0, 23), math.random(0, 59), math.random(0, 59), math.random(1, 20))
    headers["Authorization"] = authorizations[i % #authorizations + 1]
    local formatted = wrk.format(method, path, headers, body)
    if keyed then
      local before, after = formatted:match("^(.-Idempotency%-Key: )KEY(.*)$")
      formatted = { before, after }
    end
    requests[i] = formatted
  end
end

function request()
  next_request = next_request % #requests + 1
  local request = requests[next_request]
  if keyed then
    -- A key of its own for each request, so that none is a retry.
    sent = sent + 1
    return request[1] .. run .. sent .. request[2]
  end
  return request
end

-- Answers other than 200 are the harness's concern; wrk counts them as "Non-2xx or 3xx responses".
