// Sends requests for some seconds over 64 connections, going round the keys of a file, or, with 0 seconds, sends each
// key once, to have all of them remembered. Prints what came back as JSON.
import { readFileSync } from 'node:fs';
import autocannon from 'autocannon';

const [, , url = '', keyFile = '', seconds = '0'] = process.argv;
const keys = readFileSync(keyFile, 'utf8').trim().split('\n');
const result = await autocannon({
  url,
  ...(seconds === '0'
    ? { connections: 1, amount: keys.length }
    : { connections: 64, duration: Number(seconds) }),
  requests: keys.map((key) => ({ method: 'GET' as const, path: '/v1/time', headers: { 'X-API-Key': key } })),
});
process.stdout.write(
  JSON.stringify({
    // The mean of whole seconds: the generator's own start is not in it.
    perSecond: result.requests.mean,
    ok: result['2xx'],
    other: result.non2xx + result.errors + result.timeouts,
  }),
);
