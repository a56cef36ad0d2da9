import { afterEach, expect, it } from 'vitest';
import { closeAll, startTestGateway } from '../test/gateways.ts';
import { outcomeOf } from './metrics.ts';

afterEach(closeAll);

/** The figures of one metric, by what stands before them. */
async function figures(internalUrl: string, name: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(name));
  return Object.fromEntries(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' ') + 1)),
    ]),
  );
}

it('tells how long the upstream took, in buckets that add up', async () => {
  const gateway = await startTestGateway();
  const { plaintext } = await gateway.key('open');
  for (let i = 0; i < 3; i++) await gateway.get('/x', plaintext);
  await gateway.get('/x');
  const seconds = await figures(gateway.internalUrl, 'tollgate_gateway_upstream_seconds');
  const buckets = Object.entries(seconds).filter(([name]) => name.includes('_bucket'));
  expect(seconds.tollgate_gateway_upstream_seconds_count).toBe(3);
  expect(seconds.tollgate_gateway_upstream_seconds_sum).toBeGreaterThan(0);
  expect(buckets.at(-1)).toEqual(['tollgate_gateway_upstream_seconds_bucket{le="+Inf"}', 3]);
  const counts = buckets.map(([, count]) => count);
  expect(counts).toEqual([...counts].sort((a, b) => a - b));
  expect(buckets).toHaveLength(16);
});

it('counts requests by what became of them, and refusals by their code', async () => {
  const gateway = await startTestGateway();
  const { plaintext, id } = await gateway.key('open');
  await gateway.get('/x', plaintext);
  await gateway.get('/x', plaintext);
  await gateway.get('/x');
  await gateway.get('/whoami', plaintext);
  expect(await figures(gateway.internalUrl, 'tollgate_gateway_requests_total')).toEqual({
    'tollgate_gateway_requests_total{outcome="forwarded",status="2xx"}': 2,
    'tollgate_gateway_requests_total{outcome="refused",status="4xx"}': 1,
    'tollgate_gateway_requests_total{outcome="answered",status="2xx"}': 1,
  });
  expect(await figures(gateway.internalUrl, 'tollgate_gateway_refusals_total')).toEqual({
    'tollgate_gateway_refusals_total{code="missing_key"}': 1,
  });
  const seconds = await figures(gateway.internalUrl, 'tollgate_gateway_request_seconds');
  expect(seconds.tollgate_gateway_request_seconds_count).toBe(4);
  expect(seconds.tollgate_gateway_request_seconds_sum).toBeGreaterThan(0);
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  expect(text).not.toContain(id);
});

it('takes what is ours for a failure, and a stop that was asked for not', () => {
  expect(
    (
      ['rate_limited', 'invalid_key', 'stopping', 'overloaded', 'upstream_timeout', 'internal_error'] as const
    ).map(outcomeOf),
  ).toEqual(['refused', 'refused', 'refused', 'failed', 'failed', 'failed']);
});
