import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { POLICY_DEFAULTS, routeTo } from '../gateway/routes/route-spec.ts';
import { freePort } from '../scripts/free-port.ts';
import { mintKey } from '../shared/keys.ts';
import { loadPlans } from '../shared/plans.ts';
import { outcomeOf, sentenceOf, type Why, type WhyRefusal, why } from '../shared/why.ts';
import {
  boughtKey,
  closeAll,
  closeLater,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from './gateways.ts';
import { SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { runProgram } from './processes.ts';
import { rawQuery } from './raw-sql.ts';
import { needsRedis, startRedis } from './redis-servers.ts';
import { LANES } from './servers.ts';

afterEach(closeAll);

const DAY_MS = 86_400_000;
const PLANS = `plans:
  open: { name: Open }
  small: { name: Small, limits: [{ requests: 2, per: hour }] }
  monthly: { name: Monthly, quota: 2 }
  pack: { name: Pack, quota: { requests: 2, per: purchase } }
`;

/** A gateway with a route that asks for a feature beside one for everything. */
async function gatewayWithRoutes(lane: (typeof LANES)[number] = 'off'): Promise<TestGateway> {
  const { url } = await startUpstream();
  const all = routeTo(url, 60_000);
  const batch = {
    ...all,
    name: 'batch',
    path: '/batch',
    policy: { ...POLICY_DEFAULTS, features: ['batch'], methods: ['GET'] },
  };
  return startTestGateway({ routes: [all, batch], plans: PLANS, env: { FAST_LANE: lane } });
}

const catalogue = () => loadPlans({}, plansFile(), true).catalogue;

function plansFile(): string {
  const file = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(file, PLANS);
  return file;
}

it.each(['of_a_later_version', 'constructor'])('a refusal of the unknown code %s is shown by it', (code) => {
  const refusal = { code, detail: null } as WhyRefusal;
  expect([outcomeOf(refusal), sentenceOf(refusal)]).toEqual([code, code]);
  expect(sentenceOf({ ...refusal, detail: 'It said why.' })).toBe('It said why.');
});

function ask(gateway: TestGateway, id: string, gatewayUrl = gateway.internalUrl): Promise<Why | null> {
  return why(gateway.keystore, { id, gatewayUrl, plans: catalogue(), now: Date.now() });
}

/** Refused with this code; what the answer said, and what is known of it once it is written down. */
async function refused(gateway: TestGateway, response: Response, code: string) {
  const problem = (await response.json()) as { code: string; detail: string; request_id: string };
  expect(problem.code).toBe(code);
  const answered = await vi.waitFor(async () => {
    const found = await ask(gateway, problem.request_id);
    expect(found?.request).toMatchObject({ code, requestId: problem.request_id });
    return found as Why;
  });
  expect(answered.request?.detail ?? problem.detail).toBe(problem.detail);
  if (answered.key !== null) await expectKeystoreToSay(gateway, answered, problem.request_id);
  return { problem, answered };
}

/** Where neither windows nor routes matter, the keystore alone says the same as the gateway. */
async function expectKeystoreToSay(gateway: TestGateway, answered: Why, requestId: string): Promise<void> {
  const code = answered.verdict?.code ?? null;
  await vi.waitFor(async () => {
    const alone = await ask(gateway, requestId, 'http://127.0.0.1:1');
    expect(alone).toMatchObject({ from: 'keystore', request: answered.request, verdict: { limits: null } });
    if (code === null || BEYOND_THE_KEYSTORE.has(code)) expect(alone?.verdict?.admitted).toBe(true);
    else expect(alone?.verdict).toMatchObject({ admitted: false, code, status: answered.verdict?.status });
  });
}
const BEYOND_THE_KEYSTORE = new Set(['rate_limited', 'feature_required', 'method_not_allowed']);

it.for([
  ['closed', { admitted: false, status: 503, code: 'limits_unavailable', limits: [] }],
  ['local', { admitted: true, code: null, limits: [{ name: 'hour', remaining: 1 }] }],
] as const)('a Redis that is away, with limits without it %s', async ([without, verdict], context) => {
  needsRedis(context);
  const redis = closeLater(await startRedis());
  const gateway = await startTestGateway({
    plans: PLANS,
    env: { REDIS_URL: redis.url, LIMITS_WITHOUT_REDIS: without },
  });
  const { plaintext, id } = await gateway.key('small');
  await vi.waitFor(async () => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    expect(text).toMatch(/^tollgate_gateway_redis_up 1$/m);
  });
  expect((await gateway.get('/', plaintext)).status).toBe(200);
  expect((await ask(gateway, id))?.verdict).toMatchObject({ admitted: true, limits: [{ remaining: 1 }] });
  await redis.kill();
  await vi.waitFor(async () => expect((await ask(gateway, id))?.verdict).toMatchObject(verdict));
  expect((await gateway.get('/', plaintext)).status).toBe(verdict.admitted ? 200 : 503);
});

describe.each(LANES)('with the fast lane %s', (lane) => {
  it('a full window', async () => {
    const gateway = await gatewayWithRoutes(lane);
    const { plaintext, id } = await gateway.key('small');
    expect(await ask(gateway, id)).toMatchObject({
      from: 'gateway',
      verdict: { admitted: true, limits: [{ name: 'hour', remaining: 2 }] },
      refusals: [],
    });
    await gateway.get('/a', plaintext);
    await gateway.get('/a', plaintext);
    const { problem, answered } = await refused(
      gateway,
      await gateway.get('/a?q=secret', plaintext),
      'rate_limited',
    );
    expect(answered).toMatchObject({
      key: { id },
      request: { method: 'GET', path: '/a', route: 'default', address: '127.0.0.1', keyId: id },
      verdict: {
        admitted: false,
        status: 429,
        code: 'rate_limited',
        detail: problem.detail,
        limits: [{ remaining: 0 }],
      },
      refusals: [{ requestId: problem.request_id }],
    });
    expect(answered.verdict?.retry_after_s).toBeGreaterThan(3500);
    // Asking spends nothing of another key's, nor is it a use.
    const other = await gateway.key('small');
    for (let i = 0; i < 5; i++) expect((await ask(gateway, other.id))?.verdict?.admitted).toBe(true);
    expect((await gateway.get('/a', other.plaintext)).headers.get('x-ratelimit-remaining')).toBe('1');
  });

  it('a used up quota, of a month and of a purchase', async () => {
    const gateway = await gatewayWithRoutes(lane);
    const monthly = await gateway.key('monthly');
    const pack = await boughtKey(gateway, { planId: 'pack', once: true });
    for (const { plaintext } of [monthly, pack])
      for (let i = 0; i < 2; i++) await gateway.get('/', plaintext);
    const month = await refused(gateway, await gateway.get('/', monthly.plaintext), 'quota_exceeded');
    expect(month.answered.verdict).toMatchObject({
      admitted: false,
      code: 'quota_exceeded',
      quota: { per: 'month', limit: 2, used: 2, remaining: 0 },
    });
    const bought = await refused(gateway, await gateway.get('/', pack.plaintext), 'requests_used_up');
    expect(bought.answered.verdict).toMatchObject({
      status: 402,
      quota: { per: 'purchase', resets_at: null },
    });
  });

  it('no key, and a made-up one: found by the request, and not by any key', async () => {
    const gateway = await gatewayWithRoutes(lane);
    const { plaintext } = await gateway.key('small');
    const forged = `${plaintext.slice(0, 20)}${'x'.repeat(38)}`;
    const without = await refused(gateway, await gateway.get('/'), 'missing_key');
    expect(without.answered).toMatchObject({ key: null, verdict: null, request: { keyId: null } });
    await refused(gateway, await gateway.get('/', forged), 'invalid_key');
    const stored = JSON.stringify(await rawQuery(gateway.keystoreUrl, 'select * from refusals'));
    expect(stored).not.toContain(forged.slice(8));
    expect(stored).not.toContain(plaintext.slice(8));
  });
});

describe('the subscription', () => {
  it('past due: in grace, and after it', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id, sync } = await boughtKey(gateway, { planId: 'open' });
    await sync({ status: 'past_due', pastDueSince: Date.now() - 3 * DAY_MS, fetchedAt: 2000 });
    await vi.waitFor(async () =>
      expect(await ask(gateway, id)).toMatchObject({
        access: { state: 'active' },
        key: { subscription: { status: 'past_due' } },
        verdict: { admitted: true, access_until: expect.stringMatching(/^20/) },
      }),
    );
    await sync({ status: 'past_due', pastDueSince: Date.now() - 20 * DAY_MS, fetchedAt: 3000 });
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(402));
    const { answered } = await refused(gateway, await gateway.get('/', plaintext), 'payment_past_due');
    expect(answered).toMatchObject({
      access: { state: 'suspended' },
      verdict: {
        admitted: false,
        status: 402,
        code: 'payment_past_due',
        remedy: expect.stringContaining('payment'),
      },
    });
  });

  it('suspended by the seller, with limits of its own', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await boughtKey(gateway, { planId: 'open' });
    await gateway.get('/', plaintext);
    const override = { limits: [{ name: 'minute', requests: 7, seconds: 60 }], quota: null };
    await gateway.keystore.overrideLimits({ id, override, actor: 't' });
    await vi.waitFor(async () =>
      expect(await ask(gateway, id)).toMatchObject({
        key: { override },
        plan: { limits: [{ requests: 7 }] },
        verdict: { admitted: true, limits: [{ name: 'minute', limit: 7 }] },
      }),
    );
    await gateway.keystore.suspendKey({ id, note: 'asked for a call', actor: 't' });
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(403));
    const { answered } = await refused(gateway, await gateway.get('/', plaintext), 'suspended_by_seller');
    expect(answered).toMatchObject({
      access: { state: 'suspended', code: 'suspended_by_seller' },
      key: { suspendedAt: expect.any(Number), suspendedNote: 'asked for a call' },
      verdict: { admitted: false, status: 403, remedy: expect.stringContaining('Contact the seller') },
    });
  });

  it('in dispute, then canceled', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id, sync, syncPayment } = await boughtKey(gateway, { planId: 'open' });
    await gateway.get('/', plaintext);
    await syncPayment({ dispute: 'open', disputedSince: Date.now() });
    await vi.waitFor(async () =>
      expect((await ask(gateway, id))?.verdict).toMatchObject({ code: 'payment_disputed' }),
    );
    await sync({ status: 'canceled', fetchedAt: 9000 });
    await vi.waitFor(async () =>
      expect((await ask(gateway, id))?.verdict).toMatchObject({ code: 'subscription_ended' }),
    );
    await refused(gateway, await gateway.get('/', plaintext), 'subscription_ended');
  });
});

describe('the key', () => {
  it('revoked, expired', async () => {
    const gateway = await gatewayWithRoutes();
    const revoked = await gateway.key('open');
    await gateway.keystore.revokeKey({ id: revoked.id, reason: 'leaked', actor: 'test' });
    const expired = await gateway.key('open', { expiresAt: Date.now() - 1 });
    const first = await refused(gateway, await gateway.get('/', revoked.plaintext), 'revoked_key');
    expect(first.answered.verdict?.detail).toContain('known to others');
    const second = await refused(gateway, await gateway.get('/', expired.plaintext), 'expired_key');
    expect(second.answered.access?.state).toBe('expired');
  });

  it('from another address', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await gateway.key('open');
    await gateway.keystore.allowAddresses({ id, addresses: ['192.0.2.0/24'], actor: 'test' });
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(403));
    const { answered } = await refused(gateway, await gateway.get('/', plaintext), 'address_not_allowed');
    expect(answered.verdict).toMatchObject({ admitted: false, detail: expect.stringContaining('127.0.0.1') });
    // Of the key itself: from where it may be used it works.
    expect((await ask(gateway, id))?.verdict?.admitted).toBe(true);
  });

  it('without the feature of a route: that request is refused, another is not', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await gateway.key('open');
    const { answered } = await refused(gateway, await gateway.get('/batch/1', plaintext), 'feature_required');
    expect(answered.verdict).toMatchObject({ code: 'feature_required', route: 'batch' });
    expect((await ask(gateway, id))?.verdict).toMatchObject({ admitted: true, route: null });
    await refused(
      gateway,
      await gateway.get('/batch/1', plaintext, { method: 'POST' }),
      'method_not_allowed',
    );
  });

  it('an upstream that does not answer is no refusal of the key', async () => {
    const gateway = await startTestGateway({ upstreamUrl: 'http://127.0.0.1:1', plans: PLANS });
    const { plaintext, id } = await gateway.key('open');
    const { answered } = await refused(gateway, await gateway.get('/', plaintext), 'upstream_unreachable');
    expect(answered).toMatchObject({ key: { id }, verdict: { admitted: true } });
  });

  it('on a plan that is gone from the plan file: ours', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext } = await gateway.key('gone');
    const { answered } = await refused(gateway, await gateway.get('/', plaintext), 'plan_unavailable');
    expect(answered).toMatchObject({ plan: null, verdict: { status: 503 } });
  });
});

it('a flood of refused requests leaves a few lines, and all of it is counted', async () => {
  const gateway = await gatewayWithRoutes();
  const { plaintext, id } = await gateway.key('small');
  for (let i = 0; i < 200; i++) await (await gateway.get('/', plaintext)).text();
  const written = await vi.waitFor(async () => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    const of = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
    const all = of('tollgate_gateway_refusals_written_total');
    expect(all + of('tollgate_gateway_refusals_dropped_total')).toBe(198);
    return all;
  });
  expect(written).toBeLessThan(198);
  expect((await ask(gateway, id))?.refusals.length).toBeLessThanOrEqual(20);
});

describe('/why of the internal listener', () => {
  it.each([
    ['nothing', '', 400],
    ['no key id', '?key_id=x', 400],
    ['more than it knows', '?key_id=abcdefghijkl&colour=red', 400],
    ['an address that is none', '?key_id=abcdefghijkl&address=here', 400],
    ['a key that there is not', '?key_id=abcdefghijkl', 404],
  ])('asked about %s, it says so', async (_what, query, status) => {
    const gateway = await gatewayWithRoutes();
    const response = await fetch(`${gateway.internalUrl}/why${query}`);
    expect([response.status, response.headers.get('content-type')]).toEqual([
      status,
      'application/problem+json',
    ]);
  });

  it('is not among what customers reach', async () => {
    const gateway = await gatewayWithRoutes();
    expect((await gateway.get('/why?key_id=abcdefghijkl')).status).toBe(401);
  });

  it('with a keystore that is away: 503', async () => {
    const gateway = await gatewayWithRoutes();
    vi.spyOn(gateway.keystore, 'findKeyFacts').mockRejectedValue(new Error('away'));
    expect((await fetch(`${gateway.internalUrl}/why?key_id=abcdefghijkl`)).status).toBe(503);
  });
});

describe('npm run why', () => {
  const run = (gateway: TestGateway, args: string[], input?: string, port = gateway.internalPort) =>
    runProgram(
      'scripts/why.ts',
      {
        KEYSTORE_URL: gateway.keystoreUrl,
        TOLLGATE_SECRET: SERVER_SECRET,
        PLANS_FILE: plansFile(),
        INTERNAL_PORT: String(port),
      },
      args,
      input,
    );

  it('says the reason first, then the facts, then the refusals; its exit code is the answer', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await gateway.key('small');
    const admitted = await run(gateway, [id]);
    expect(admitted).toMatchObject({ code: 0, output: expect.stringMatching(/^Admitted: /) });
    expect(admitted.output).toContain('2 of 2 a hour left');
    for (let i = 0; i < 2; i++) await gateway.get('/', plaintext);
    const { problem } = await refused(gateway, await gateway.get('/v1/items', plaintext), 'rate_limited');
    const { code, output } = await run(gateway, [id]);
    expect(code).toBe(1);
    expect(output).toMatch(
      /^Refused: a request with this key would be answered 429 rate_limited\.\nThe plan Small allows/,
    );
    expect(output).toMatch(
      new RegExp(
        `WHEN +ANSWER[\\s\\S]*429 rate_limited +The plan Small[^\\n]*GET /v1/items +127.0.0.1 +${problem.request_id}`,
      ),
    );
    const byRequest = await run(gateway, [problem.request_id, '--json']);
    expect(byRequest.code).toBe(1);
    expect(JSON.parse(byRequest.output)).toMatchObject({
      admitted: false,
      from: 'gateway',
      request: { request_id: problem.request_id, code: 'rate_limited' },
      key: { key_id: id, state: 'active', plan: 'small' },
      verdict: { code: 'rate_limited' },
      refusals: [{ code: 'rate_limited' }],
    });
  });

  it('takes a key on standard input only, and repeats it nowhere', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await gateway.key('open');
    expect(await run(gateway, ['-'], `${plaintext}\n`)).toMatchObject({
      code: 0,
      output: expect.stringContaining(id),
    });
    const typed = await run(gateway, [plaintext]);
    expect(typed).toMatchObject({ code: 2, output: expect.stringContaining('standard input') });
    expect(typed.output).not.toContain(plaintext.slice(-20));
    const beside = await run(gateway, ['a', plaintext]);
    expect([beside.code, beside.output.includes(plaintext.slice(-20))]).toEqual([2, false]);
    const cut = await run(gateway, ['-'], plaintext.slice(0, -3));
    expect(cut).toMatchObject({ code: 1, output: expect.stringContaining('form or checksum') });
    expect(await run(gateway, ['-'], '')).toMatchObject({ code: 2 });
    const strange = mintKey('tg', 'test');
    expect(await run(gateway, ['-'], strange.plaintext)).toMatchObject({ code: 3 });
  });

  it('nothing known: 3; wrong usage: 2; no answer to be had: neither of them', async () => {
    const gateway = await gatewayWithRoutes();
    expect(await run(gateway, ['abcdefghijkl'])).toMatchObject({
      code: 3,
      output: expect.stringContaining('Nothing is known by the id "abcdefghijkl"'),
    });
    expect((await run(gateway, [])).code).toBe(2);
    expect((await run(gateway, ['a', 'b'])).code).toBe(2);
    expect((await run(gateway, ['a', '--colour'])).code).toBe(2);
    const elsewhere = { KEYSTORE_URL: gateway.keystoreUrl, TOLLGATE_SECRET: SERVER_SECRET.toUpperCase() };
    expect((await runProgram('scripts/why.ts', elsewhere, ['abcdefghijkl'])).code).toBe(78);
  });

  it('without a gateway it answers from the keystore, and says so', async () => {
    const gateway = await gatewayWithRoutes();
    const { plaintext, id } = await gateway.key('monthly');
    for (let i = 0; i < 2; i++) await gateway.get('/', plaintext);
    await refused(gateway, await gateway.get('/', plaintext), 'quota_exceeded');
    await vi.waitFor(async () => expect((await gateway.keystore.findKeyFacts(id))?.usedThisMonth).toBe(2));
    const { code, output } = await run(gateway, [id], undefined, await freePort());
    expect(code).toBe(1);
    expect(output).toMatch(/^Refused: .*429 quota_exceeded/);
    expect(output).toContain('No gateway answered at http://127.0.0.1:');
    expect(output).toContain('2 of 2 used this month');
  });
});
