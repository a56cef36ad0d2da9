import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { temporaryFolder } from './keystores.ts';
import { controlSandbox, startTollgateUnderTest } from './tollgate.ts';

const PLANS = `plans:
  limited:
    name: Limited
    price: { amount: 100, currency: usd, per: month }
    limits: [{ requests: 6, per: hour }]
  metered:
    name: Metered
    price: { amount: 200, currency: usd, per: month }
    quota: 6
  open:
    name: Open
    price: { amount: 300, currency: usd, per: month }
`;

let tollgate: Awaited<ReturnType<typeof startTollgateUnderTest>>;
beforeAll(async () => {
  const PLANS_FILE = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(PLANS_FILE, PLANS);
  tollgate = await startTollgateUnderTest({ PLANS_FILE });
});
afterAll(() => tollgate.close());

const post = async (path: string, body: object, headers: Record<string, string> = {}) => {
  const response = await fetch(`${tollgate.billing.url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  expect(response.status, path).toBe(200);
  return (await response.json()) as Record<string, string>;
};
async function buyKey(plan: string): Promise<string> {
  const { url = '' } = await post('/billing/create-checkout-session', { plan });
  const [sessionId = ''] = /cs_test_[0-9A-Za-z]+/.exec(url) ?? [];
  await controlSandbox(tollgate.sandbox!.url, `/checkout/sessions/${sessionId}/pay`);
  return vi.waitFor(async () => {
    const { key } = await post('/billing/success/claim', { session_id: sessionId });
    return key as string;
  });
}
const rotate = async (key: string, overlap_hours: number) =>
  (await post('/billing/rotate-key', { overlap_hours }, { 'X-API-Key': key })).key as string;
const use = (key: string) =>
  fetch(`${tollgate.gateway.url}/v1/echo`, { headers: { Authorization: `Bearer ${key}` } });
const statuses = async (...keys: string[]) => {
  const seen: number[] = [];
  for (const key of keys) seen.push((await use(key)).status);
  return seen;
};

it.each([
  ['limited', 'rate_limited'],
  ['metered', 'quota_exceeded'],
])('rotation gives nothing for free: %s', async (plan, code) => {
  const first = await buyKey(plan);
  expect(await statuses(first, first, first)).toEqual([200, 200, 200]);
  const second = await rotate(first, 24);
  expect(await statuses(second, first)).toEqual([200, 200]);
  const third = await rotate(second, 24);
  expect(await statuses(third)).toEqual([200]);
  for (const key of [first, second, third]) {
    const refused = await use(key);
    expect(await refused.json()).toMatchObject({ status: 429, code });
  }
});

it('without overlap the old key is refused at once, everywhere; with one, when it is over', async () => {
  const first = await buyKey('open');
  expect(await statuses(first)).toEqual([200]);
  const second = await rotate(first, 0);
  expect(await statuses(second)).toEqual([200]);
  await vi.waitFor(async () => expect((await use(first)).status).toBe(401), 1000);

  const rotated = await tollgate.keystore.rotateKey({
    id: second.slice('tg_test_'.length, 'tg_test_'.length + 12),
    overlapMs: 1500,
    actor: 'test',
  });
  if (typeof rotated === 'string') throw new Error(rotated);
  expect(await statuses(rotated.plaintext, second)).toEqual([200, 200]);
  await vi.waitFor(async () =>
    expect(await (await use(second)).json()).toMatchObject({ status: 401, code: 'expired_key' }),
  );
  expect(await statuses(rotated.plaintext)).toEqual([200]);
});
