import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { closeAll, closeLater, startTestGateway } from './gateways.ts';
import { newKeystoreUrl, SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { makeNamespace, needsNamespaces } from './network-namespaces.ts';
import { startProgramUntil } from './processes.ts';
import { needsRedis, startRedis } from './redis-servers.ts';

beforeEach(needsNamespaces);
beforeEach(needsRedis);
afterEach(closeAll);

const PLANS = 'plans: { large: { name: Large, limits: [{ requests: 50, per: hour }] } }\n';

it('a gateway that cannot reach Redis, and only that one, limits on its own; then they are one again', async () => {
  const away = closeLater(makeNamespace());
  const redis = closeLater(await startRedis({ alsoAt: away.hereOnSecond }));
  const api = createServer((_req, res) => res.end('{}'));
  await new Promise<void>((resolve) => api.listen(0, '0.0.0.0', resolve));
  closeLater({ close: async () => void api.close() });
  const { port } = api.address() as AddressInfo;
  const keystoreUrl = newKeystoreUrl();
  const near = await startTestGateway({
    keystoreUrl,
    plans: PLANS,
    upstreamUrl: `http://127.0.0.1:${port}`,
    env: { REDIS_URL: redis.url },
  });
  const plans = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plans, PLANS);
  const far = await startProgramUntil(
    /The gateway listens/,
    'gateway/main.ts',
    {
      KEYSTORE_URL: keystoreUrl,
      TOLLGATE_SECRET: SERVER_SECRET,
      PLANS_FILE: plans,
      ROUTES_FILE: 'off',
      UPSTREAM_URL: `http://${away.here}:${port}`,
      REDIS_URL: `redis://${away.hereOnSecond}:${redis.port}`,
      HOST: away.there,
      GATEWAY_PORT: '18010',
      INTERNAL_HOST: away.there,
      INTERNAL_PORT: '18013',
    },
    [],
    away.within,
  );
  closeLater({ close: async () => void (await far.stop()) });
  const { plaintext } = await near.key('large');
  const askNear = async () => (await near.get('/', plaintext)).status;
  const askFar = async () =>
    (await fetch(`http://${away.there}:18010/`, { headers: { 'X-API-Key': plaintext } })).status;
  const farHasRedis = async () => {
    const text = await (await fetch(`http://${away.there}:18013/metrics`)).text();
    return /^tollgate_gateway_redis_up (\d)$/m.exec(text)?.[1];
  };
  await vi.waitFor(async () => expect(await farHasRedis()).toBe('1'));
  for (let i = 0; i < 5; i++) expect([await askNear(), await askFar()]).toEqual([200, 200]);

  away.cut();
  const from = async (ask: () => Promise<number>) => {
    const counts: Record<number, number> = {};
    for (let i = 0; i < 60; i++) {
      const status = await ask();
      counts[status] = (counts[status] ?? 0) + 1;
    }
    return counts;
  };
  // Each had ten of fifty counted.
  expect(await from(askFar)).toEqual({ 200: 40, 429: 20 });
  expect(await farHasRedis()).toBe('0');
  expect(await from(askNear)).toEqual({ 200: 40, 429: 20 });

  away.mend();
  await vi.waitFor(async () => expect(await farHasRedis()).toBe('1'));
  expect([await askNear(), await askFar()]).toEqual([429, 429]);
  const key = (await redis.client.keys('tollgate:*'))[0] as string;
  // What was on its way when the cable was cut may be counted or not, and nothing is counted twice.
  await vi.waitFor(async () => expect(Number(await redis.client.get(key))).toBeGreaterThanOrEqual(89));
  expect(Number(await redis.client.get(key))).toBeLessThanOrEqual(90);
});
