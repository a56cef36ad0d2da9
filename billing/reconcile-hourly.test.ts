import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createLogger } from '../shared/log.ts';
import { besideKeystore, whenUnlocked } from '../test/beside-keystore.ts';
import { type BillingUnderTest, startBillingUnderTest } from '../test/billing.ts';
import { closeAll, closeLater } from '../test/gateways.ts';
import { openTestKeystore } from '../test/keystores.ts';
import { HourlyReconcile } from './reconcile-hourly.ts';
import { createStripe } from './stripe-client.ts';

let test: BillingUnderTest;
beforeEach(async () => {
  test = await startBillingUnderTest();
  await test.stopBilling();
});
afterEach(async () => {
  await closeAll();
  await test.close();
});

/** What runs in a billing process, on a keystore connection of its own. */
async function startProcess() {
  const lines: string[] = [];
  const log = createLogger({ level: 'info', destination: { write: (line) => void lines.push(line) } });
  const keystore = closeLater(await openTestKeystore({ url: test.keystoreUrl }));
  const stripe = createStripe(test.config.stripe!);
  const { plans } = test.config;
  const afterRun = vi.fn();
  const hourly = new HourlyReconcile(
    { stripe, mode: 'test', keystore, plans, keyPrefix: 'tg', ownOrigins: [test.url], log },
    afterRun,
  );
  closeLater({ close: () => hourly.stop(1000) });
  const runs = () => lines.filter((line) => line.includes('Reconciled with Stripe')).length;
  return { hourly, lines, runs, afterRun, keystore };
}
it('what was paid while nothing ran is there after the start, and once is enough for two processes', async () => {
  const sessionId = await test.paidSession();
  const [a, b] = [await startProcess(), await startProcess()];
  a.hourly.start();
  b.hourly.start();
  await vi.waitFor(async () =>
    expect(await test.keystore.findPurchase(sessionId)).toMatchObject({ status: 'provisioned' }),
  );
  await vi.waitFor(() => expect(a.runs() + b.runs()).toBeGreaterThan(0));
  expect(a.afterRun.mock.calls.length + b.afterRun.mock.calls.length).toBe(a.runs() + b.runs());
  expect(await test.keystore.listKeys({ limit: 9 })).toHaveLength(1);
});

it('who bought before this keystore was first used gets no key out of the blue, not at a renewal either', async () => {
  const sessionId = await test.paidSession();
  const raw = besideKeystore(test.keystoreUrl);
  const later = raw.prepare("update meta set value = ? where name = 'bound_at'");
  await whenUnlocked(() => later.run(String(Date.now() + 3 * 3_600_000)));
  raw.close();
  const { hourly, runs } = await startProcess();
  hourly.start();
  await vi.waitFor(() => expect(runs()).toBe(1));
  expect(await test.keystore.findPurchase(sessionId)).toBeUndefined();
  await test.restart();
  await test.control('/delivery', { mode: 'dropped', drop_fraction: 1 });
  const [updated] = (await test.stripe.events.list({ type: 'customer.subscription.created' })).data;
  await test.control(`/events/${updated!.id}/deliver`);
  await vi.waitFor(async () =>
    expect(await test.keystore.findEvent(updated!.id)).toMatchObject({ status: 'processed' }),
  );
  expect(await test.keystore.listKeys({ limit: 9 })).toEqual([]);
});

it('Stripe away: said in a line, and a stop does not wait for it', async () => {
  await test.control('/faults', { count: 1000, status: 503 });
  const { hourly, lines } = await startProcess();
  hourly.start();
  await vi.waitFor(() => expect(lines.join('')).toContain('Reconciling with Stripe did not finish'));
  await hourly.stop(100);
  expect(lines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
});
