-- For wrk: the request from the arguments (method, bytes of body), the result as one line of JSON.

function init(args)
   wrk.method = args[1] or "GET"
   local bytes = tonumber(args[2] or "0")
   if bytes > 0 then
      wrk.body = string.rep("x", bytes)
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "duration_us": %d, "bytes": %.0f, "p50_us": %d, "p99_us": %d, "failures": %d}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout
   ))
end
