import { afterEach, describe, expect, it, vi } from 'vitest';
import { boughtKey, closeAll, startTestGateway, startUpstream } from '../../test/gateways.ts';

afterEach(closeAll);

const NOVEMBER = Date.UTC(2026, 10, 30, 23, 59, 30);

describe('a plan’s limits', () => {
  it('of 3N concurrent requests exactly N are admitted, the rest are told when to come back', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key('large');
    const all = await Promise.all(Array.from({ length: 150 }, () => gateway.get('/', plaintext)));
    const refused = all.filter((response) => response.status === 429);
    expect(all.filter((response) => response.status === 200)).toHaveLength(50);
    expect(refused).toHaveLength(100);
    expect(upstream.requests).toHaveLength(50);
    const [response] = refused as [Response];
    const reset = Number(/"hour";r=0;t=(\d+)/.exec(response.headers.get('ratelimit') ?? '')?.[1]);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(reset);
    expect(await response.json()).toMatchObject({
      code: 'rate_limited',
      status: 429,
      'violated-policies': ['hour'],
    });
    const { limits } = (await (await gateway.get('/quota', plaintext)).json()) as {
      limits: { remaining: number }[];
    };
    expect(limits.map((limit) => limit.remaining)).toEqual([0, 30]);
  });

  it('/whoami and /quota spend nothing, say the same, and work with HEAD only besides GET', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext, id } = await gateway.key('small');
    await gateway.get('/', plaintext);
    for (let i = 0; i < 20; i++) expect((await gateway.get('/quota', plaintext)).status).toBe(200);
    const whoami = await gateway.get('/whoami?x=1', plaintext);
    expect(whoami.headers.get('cache-control')).toBe('no-store');
    expect(whoami.headers.get('ratelimit')).toMatch(/^"hour";r=4;t=\d+, "day";r=7;t=\d+$/);
    expect(whoami.headers.get('x-ratelimit-remaining')).toBe('4');
    const limits = [
      { name: 'hour', limit: 5, remaining: 4, reset_seconds: expect.any(Number), window_seconds: 3600 },
      { name: 'day', limit: 8, remaining: 7, reset_seconds: expect.any(Number), window_seconds: 86_400 },
    ];
    expect(await whoami.json()).toEqual({
      key_id: id,
      last_four: plaintext.slice(-4),
      mode: 'test',
      state: 'active',
      access_until: null,
      plan: { id: 'small', name: 'Small' },
      quantity: 1,
      customer_id: null,
      limits,
      quota: null,
      features: ['a'],
      expires_at: null,
      subscription: null,
    });
    expect(await (await gateway.get('/quota', plaintext)).json()).toEqual({ limits, quota: null });
    const head = await gateway.get('/whoami', plaintext, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    const post = await gateway.get('/whoami', plaintext, { method: 'POST', body: 'x' });
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect((await gateway.get('/whoami')).status).toBe(401);
    expect(upstream.requests).toHaveLength(1);
    await gateway.close();
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 1 });
  });

  it('/whoami tells of the subscription, its grace, and what Stripe says the customer is entitled to', async () => {
    const now = Date.UTC(2026, 10, 21);
    const gateway = await startTestGateway({ now: () => now });
    const { plaintext, sync } = await boughtKey(gateway, { planId: 'small' });
    const whoami = async () => (await gateway.get('/whoami', plaintext)).json();
    expect(await whoami()).toMatchObject({
      access_until: null,
      features: ['a'],
      subscription: {
        status: 'active',
        current_period_end: '2027-01-01T00:00:00.000Z',
        cancel_at: null,
        trial_end: null,
        past_due_since: null,
      },
    });
    await gateway.keystore.syncCustomer({
      customer: { stripeCustomerId: 'cus_1', email: null, entitlements: ['b', 'a'], fetchedAt: 2000 },
      actor: 't',
    });
    await sync({
      status: 'past_due',
      pastDueSince: now - 86_400_000,
      cancelAt: Date.UTC(2026, 11, 24),
      trialEnd: Date.UTC(2026, 9, 1),
      fetchedAt: 2000,
    });
    await vi.waitFor(
      async () =>
        expect(await whoami()).toMatchObject({
          state: 'active',
          access_until: '2026-12-04T00:00:00.000Z',
          features: ['a', 'b'],
          subscription: {
            status: 'past_due',
            cancel_at: '2026-12-24T00:00:00.000Z',
            trial_end: '2026-10-01T00:00:00.000Z',
            past_due_since: '2026-11-20T00:00:00.000Z',
          },
        }),
      1000,
    );
  });

  it('the reserved paths are exact: what only looks like one is the upstream’s', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    for (const path of ['/whoami/', '/Whoami', '/whoami2', '/health/x']) await gateway.get(path, plaintext);
    expect(upstream.requests.map((request) => request.url)).toEqual([
      '/whoami/',
      '/Whoami',
      '/whoami2',
      '/health/x',
    ]);
  });

  it('a monthly quota ends, says until when, and renews with the month at runtime', async () => {
    let time = NOVEMBER;
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext, id } = await gateway.key('monthly');
    const all = await Promise.all(Array.from({ length: 30 }, () => gateway.get('/', plaintext)));
    expect(all.filter((response) => response.status === 200)).toHaveLength(10);
    const response = all.find(({ status }) => status === 429) as Response;
    expect(response.headers.get('retry-after')).toBe('30');
    expect(response.headers.get('ratelimit')).toBe('"month";r=0;t=30');
    expect(response.headers.get('ratelimit-policy')).toBe('"month";q=10;w=2592000');
    expect(await response.json()).toMatchObject({
      code: 'quota_exceeded',
      'violated-policies': ['month'],
      manage_url: 'https://buy.example.com/billing/manage',
    });
    await vi.waitFor(async () =>
      expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 10 }),
    );
    expect(await (await gateway.get('/quota', plaintext)).json()).toMatchObject({
      quota: { limit: 10, used: 10, remaining: 0, resets_at: '2026-12-01T00:00:00.000Z' },
    });
    time = Date.UTC(2026, 11, 1);
    const renewed = await gateway.get('/', plaintext);
    expect(renewed.status).toBe(200);
    expect(renewed.headers.get('ratelimit')).toBe('"month";r=9;t=2678400');
    expect(renewed.headers.get('ratelimit-policy')).toBe('"month";q=10;w=2678400');
  });

  it('a request refused by the quota consumes nothing from the windows, and one refused by a window nothing from it', async () => {
    let time = NOVEMBER;
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext, id } = await gateway.key('both');
    const codes = async () => {
      const response = await gateway.get('/', plaintext);
      return response.ok ? 'in' : ((await response.json()) as { code: string }).code;
    };
    for (let i = 0; i < 3; i++) expect(await codes()).toBe('in');
    for (let i = 0; i < 9; i++) expect(await codes()).toBe('quota_exceeded');
    time = Date.UTC(2026, 11, 1);
    expect([await codes(), await codes(), await codes()]).toEqual(['in', 'in', 'rate_limited']);
    expect(await (await gateway.get('/quota', plaintext)).json()).toMatchObject({
      limits: [{ remaining: 0 }],
      quota: { used: 2, remaining: 1 },
    });
    await gateway.close();
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 2 });
  });

  it('a quota that was used in part before the start goes on from there', async () => {
    const first = await startTestGateway({ now: () => NOVEMBER });
    const { plaintext } = await first.key('monthly');
    for (let i = 0; i < 7; i++) await first.get('/', plaintext);
    await first.close();
    const second = await startTestGateway({ now: () => NOVEMBER, keystoreUrl: first.keystoreUrl });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await second.get('/', plaintext)).status);
    expect(statuses).toEqual([200, 200, 200, 429]);
  });

  it('a plan without limits sends no rate-limit headers', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key('open');
    const { headers } = await gateway.get('/', plaintext);
    expect([...headers.keys()].filter((name) => name.includes('ratelimit'))).toEqual([]);
  });
});
