import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { needsOwnPostgres, startPostgres, type TestPostgres } from './postgres-servers.ts';

let postgres: TestPostgres;
let test: BillingUnderTest;
beforeEach(async (context) => {
  needsOwnPostgres(context);
  postgres = await startPostgres();
  test = await startBillingUnderTest({ KEYSTORE_URL: postgres.url });
});
afterEach(async () => {
  await test?.close();
  await postgres?.close();
});

it.each(['killed', 'suspended'] as const)(
  '%s again and again: no purchase is lost, each has one key, and buyers are told that it is our fault',
  async (how) => {
    const sessions = await Promise.all(Array.from({ length: 5 }, () => test.paidSession()));
    const said: number[] = [];
    for (let round = 0; round < 3; round++) {
      const buying = Array.from({ length: 8 }, () => test.paidSession());
      if (how === 'killed') await postgres.kill();
      else postgres.suspend();
      sessions.push(...(await Promise.all(buying)));
      const page = fetch(`${test.url}/billing/success?session_id=${sessions.at(-1)}`).then(
        ({ status }) => status,
      );
      if (how === 'killed') {
        said.push(await page);
        await postgres.restart();
      } else {
        postgres.resume();
        said.push(await page);
      }
      await test.control('/delivery/flush');
    }
    expect(said.filter((status) => status !== 200 && status !== 503)).toEqual([]);
    await test.expireLeases();
    await vi.waitFor(
      async () => {
        await test.control('/delivery/flush');
        const purchases = await Promise.all(sessions.map((session) => test.keystore.findPurchase(session)));
        expect(purchases.map((purchase) => purchase?.status)).toEqual(sessions.map(() => 'provisioned'));
        expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 });
      },
      { interval: 200 },
    );
    const keys = await test.keystore.listKeys({ limit: 1000 });
    expect(keys).toHaveLength(sessions.length);
    expect(new Set(keys.map(({ purchaseId }) => purchaseId)).size).toBe(sessions.length);
    for (const sessionId of sessions) {
      const claims = await Promise.all(
        [1, 2].map(() => test.keystore.claimReveal({ sessionId, actor: 'test' })),
      );
      expect(claims.map(({ outcome }) => outcome).sort()).toEqual(['already_claimed', 'claimed']);
    }
  },
);
