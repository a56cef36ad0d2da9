// The load generator where there is no wrk. Prints what load.lua prints.
import { readFileSync } from 'node:fs';
import autocannon from 'autocannon';

const [, , url = '', keyFile = '', path = '', most = '', bodyBytes = '', connections = '', seconds = ''] =
  process.argv;
const keys = readFileSync(keyFile, 'utf8').trim().split('\n').slice(0, Number(most));
const body = 'x'.repeat(Number(bodyBytes));
const result = await autocannon({
  url,
  connections: Number(connections),
  duration: Number(seconds),
  requests: keys.map((key) => ({
    method: body === '' ? ('GET' as const) : ('POST' as const),
    path,
    headers: { 'X-API-Key': key },
    ...(body === '' ? {} : { body }),
  })),
});
process.stdout.write(
  JSON.stringify({
    requests: result.requests.total,
    microseconds: result.duration * 1e6,
    p50: result.latency.p50 * 1000,
    p99: result.latency.p99 * 1000,
    unexpected: result.non2xx,
    broken: result.errors + result.timeouts,
  }),
);
