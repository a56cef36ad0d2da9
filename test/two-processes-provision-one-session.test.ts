import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { type RunningProgram, startProgramUntil } from './processes.ts';

/** In CI more of them: each takes a tenth of a second. */
const SESSIONS = process.env.CI ? 200 : 60;
const AT_ONCE = 10;

let test: BillingUnderTest;
const processes: RunningProgram[] = [];
const urls: string[] = [];
beforeAll(async () => {
  test = await startBillingUnderTest();
  // Billing in this process makes room for two in processes of their own, on the same keystore.
  await test.stopBilling();
  for (const port of [test.config.billingPort, await freePort()]) {
    processes.push(
      await startProgramUntil(/Billing listens/, 'billing/main.ts', {
        ...test.environment,
        BILLING_PORT: String(port),
      }),
    );
    urls.push(`http://127.0.0.1:${port}`);
  }
});
afterAll(async () => {
  expect(await Promise.all(processes.map((each) => each.stop()))).toEqual(processes.map(() => 0));
  await test.close();
});

it(`one key for each of ${SESSIONS} sessions that webhook and success page reach at once, claimed once`, async () => {
  const sessions: string[] = [];
  for (let start = 0; start < SESSIONS; start += AT_ONCE) {
    sessions.push(...(await Promise.all(Array.from({ length: AT_ONCE }, buyWithBothLooking))));
  }
  expect(new Set(sessions).size).toBe(SESSIONS);
  await vi.waitFor(async () => expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 0 }));
  const keys = await test.keystore.listKeys({ limit: SESSIONS * 2 });
  expect(keys).toHaveLength(SESSIONS);
  expect(new Set(keys.map((key) => key.purchaseId)).size).toBe(SESSIONS);
});

/** The webhook goes to the first process by itself; the buyer's page and its neighbour ask both. */
async function buyWithBothLooking(): Promise<string> {
  const session = await test.stripe.checkout.sessions.create({
    mode: 'subscription',
    line_items: [{ price: test.prices.pro!, quantity: 1 }],
    success_url: `${urls[0]}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
  });
  await test.pay(session.id);
  const look = (url: string) => fetch(`${url}/billing/success?session_id=${session.id}`);
  const looks = await Promise.all([...urls, ...urls].map(look));
  expect(looks.map((response) => response.status)).toEqual([200, 200, 200, 200]);
  const claims = await Promise.all(
    [...urls, ...urls].map((url) =>
      fetch(`${url}/billing/success/claim`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ session_id: session.id }),
      }),
    ),
  );
  expect(claims.map((response) => response.status).sort()).toEqual([200, 410, 410, 410]);
  return session.id;
}
