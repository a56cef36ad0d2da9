import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { closeAll, closeLater, startTestGateway, type TestGateway } from '../../test/gateways.ts';
import { openTestKeystore } from '../../test/keystores.ts';
import { needsOwnPostgres, startPostgres } from '../../test/postgres-servers.ts';

beforeEach(needsOwnPostgres);
afterEach(closeAll);

async function metric(gateway: TestGateway, name: string): Promise<number> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
}

/** How often a gateway answered what, in a burst. */
async function burst(gateway: TestGateway, key: string, count = 40): Promise<Record<number, number>> {
  const counts: Record<number, number> = {};
  const all = await Promise.all(Array.from({ length: count }, () => gateway.get('/', key)));
  for (const { status } of all) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

describe('a PostgreSQL that is away', () => {
  it.each(['killed', 'suspended'] as const)(
    '%s: known keys go on, unknown ones get 503, usage is kept; then all by itself as before',
    async (how) => {
      const postgres = closeLater(await startPostgres());
      const gateway = await startTestGateway({ keystoreUrl: postgres.url });
      const known = await gateway.key('open');
      const unseen = await gateway.key('open');
      const revokedMeanwhile = await gateway.key('open');
      expect((await gateway.get('/', known.plaintext)).status).toBe(200);
      expect((await gateway.get('/', revokedMeanwhile.plaintext)).status).toBe(200);
      expect(await metric(gateway, 'tollgate_gateway_keystore_up')).toBe(1);

      if (how === 'killed') await postgres.kill();
      else postgres.suspend();
      expect(await burst(gateway, known.plaintext)).toEqual({ 200: 40 });
      await vi.waitFor(async () => expect(await metric(gateway, 'tollgate_gateway_keystore_up')).toBe(0));
      // 1 before, and twice 40 while it is away.
      let used = 81;
      const begun = performance.now();
      expect(await burst(gateway, known.plaintext)).toEqual({ 200: 40 });
      // It would be ten seconds, were each of them to wait for the keystore.
      expect(performance.now() - begun).toBeLessThan(5000);
      await vi.waitFor(async () => {
        used += 1;
        expect((await gateway.get('/', known.plaintext)).status).toBe(200);
        expect(await metric(gateway, 'tollgate_gateway_stale_key_uses_total')).toBeGreaterThan(0);
      });
      expect(await burst(gateway, unseen.plaintext, 5)).toEqual({ 503: 5 });
      const refused = await gateway.get('/', unseen.plaintext);
      expect(await refused.json()).toMatchObject({ code: 'keystore_unavailable' });
      expect(refused.headers.get('retry-after')).toBe('1');

      if (how === 'killed') await postgres.restart();
      else postgres.resume();
      const billing = closeLater(await openTestKeystore({ url: postgres.url }));
      await billing.revokeKey({ id: revokedMeanwhile.id, reason: 'operator', actor: 't' });
      await vi.waitFor(async () =>
        expect((await gateway.get('/', revokedMeanwhile.plaintext)).status).toBe(401),
      );
      await vi.waitFor(async () => expect((await gateway.get('/', unseen.plaintext)).status).toBe(200));
      expect(await metric(gateway, 'tollgate_gateway_keystore_up')).toBe(1);
      await vi.waitFor(async () => expect((await billing.findKeyFacts(known.id))?.usedThisMonth).toBe(used));
    },
  );

  it('for longer than the grace: 503, and not 401', async () => {
    let away = 0;
    const postgres = closeLater(await startPostgres());
    const gateway = await startTestGateway({
      keystoreUrl: postgres.url,
      env: { KEYSTORE_GRACE_MINUTES: '10' },
      now: () => Date.now() + away,
    });
    const { plaintext } = await gateway.key('open');
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    await postgres.kill();
    await vi.waitFor(async () => expect(await metric(gateway, 'tollgate_gateway_keystore_up')).toBe(0));
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(await (await gateway.get('/ready')).json()).toEqual({ status: 'keystore_away' });
    away = 11 * 60_000;
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(503));
    expect((await gateway.get('/ready')).status).toBe(503);
    await postgres.restart();
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(200));
    expect(await (await gateway.get('/ready')).json()).toEqual({ status: 'ok' });
  });
});
