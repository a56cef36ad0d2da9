import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { type RunningProgram, startProgramUntil } from './processes.ts';

let test: BillingUnderTest;
let billing: RunningProgram;
beforeEach(async () => {
  test = await startBillingUnderTest();
  await test.stopBilling();
});
afterEach(async () => {
  await billing.stop();
  await test.close();
});
const start = async () => {
  billing = await startProgramUntil(/Billing listens/, 'billing/main.ts', test.environment);
};

it('an acknowledged event survives a kill right after the answer', async () => {
  await test.control('/delivery', { mode: 'paused' });
  const sessionId = await test.paidSession();
  // With Stripe hanging, nothing but the inbox can have happened before the kill.
  await test.control('/faults', { hang_ms: 60_000, count: 1000, paths: ['/v1/checkout/sessions'] });
  await start();
  await test.control('/delivery', { mode: 'concurrent' });
  await test.control('/delivery/flush');
  await vi.waitFor(async () => expect((await test.keystore.inboxDepth()).pending).toBeGreaterThan(0));
  await billing.stop('SIGKILL');
  expect(await test.keystore.findPurchase(sessionId)).toBeUndefined();
  await test.control('/faults/clear');
  await test.expireLeases();
  await start();
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
});

it('killed again and again while working: one key for each purchase, each claimed once, nothing half done', async () => {
  const sessions = await Promise.all(Array.from({ length: 60 }, () => test.paidSession()));
  let kills = 0;
  for (;;) {
    await start();
    const done = await settledWithin(30 + 40 * kills);
    if (done && kills >= 5) break;
    await billing.stop('SIGKILL');
    kills += 1;
    await test.expireLeases();
    if (done) sessions.push(...(await Promise.all(Array.from({ length: 20 }, () => test.paidSession()))));
  }
  const keys = await test.keystore.listKeys({ limit: 1000 });
  expect(keys).toHaveLength(sessions.length);
  for (const sessionId of sessions) {
    const reveal = await test.keystore.findReveal(sessionId);
    expect(reveal).toMatchObject({ purchase: { status: 'provisioned' }, reveal: { state: 'sealed' } });
    expect(keys.some((key) => key.id === reveal!.reveal!.keyId && key.customerId && key.subscriptionId)).toBe(
      true,
    );
  }
  const claims = await Promise.all(
    [...sessions, ...sessions].map((session_id) =>
      fetch(`${test.url}/billing/success/claim`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ session_id }),
      }),
    ),
  );
  expect(claims.filter((response) => response.status === 200)).toHaveLength(sessions.length);
  expect(claims.filter((response) => response.status === 410)).toHaveLength(sessions.length);

  /** Whether all work was done before the moment of the next kill. */
  async function settledWithin(ms: number): Promise<boolean> {
    const killAt = performance.now() + ms;
    while (performance.now() < killAt || kills >= 5) {
      if (await allProvisioned()) return true;
      await test.control('/delivery/flush');
    }
    return allProvisioned();
  }

  async function allProvisioned(): Promise<boolean> {
    const purchases = await Promise.all(sessions.map((session) => test.keystore.findPurchase(session)));
    return purchases.every((purchase) => purchase?.status === 'provisioned');
  }
});
