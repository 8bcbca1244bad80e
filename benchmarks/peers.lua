-- Writes of several attributes each to random users of another server, made once so that the load generator costs little.
local users = tonumber(os.getenv("BENCH_USERS"))
local peer = os.getenv("BENCH_PEER")
local requests, next_request = {}, 0

local function parse_server(user)
  local body = string.format(
    '{"age":%d,"total_spent":{"__op":"Increment","amount":%d.%02d},"city":"city-%d","last_seen":%d,'
      .. '"interests":{"__op":"AddUnique","objects":["tag-%d"]}}',
    math.random(10, 90), math.random(0, 500), math.random(0, 99), math.random(0, 9999), 1700000000000 + math.random(0, 10 ^ 9),
    math.random(1, 20))
  local headers = { ["Content-Type"] = "application/json", ["X-Parse-Application-Id"] = "benchmark" }
  return wrk.format("PUT", "/parse/classes/Member/u" .. user, headers, body)
end

local function kinto(user)
  local body = string.format(
    '{"data":{"age":%d,"total_spent":%d.%02d,"city":"city-%d","last_seen":%d,"interests":["tag-%d"]}}',
    math.random(10, 90), math.random(0, 500), math.random(0, 99), math.random(0, 9999), 1700000000000 + math.random(0, 10 ^ 9),
    math.random(1, 20))
  local headers = { ["Content-Type"] = "application/json" }
  return wrk.format("PATCH", "/v1/buckets/benchmark/collections/members/records/u" .. user, headers, body)
end

function init()
  math.randomseed(os.time())
  local make = peer == "kinto" and kinto or parse_server
  for i = 1, 20000 do
    requests[i] = make(math.random(1, users))
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end
