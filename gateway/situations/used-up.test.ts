import { afterEach, describe, expect, it } from 'vitest';
import { boughtKey, closeAll, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { eventually } from '../../test/servers.ts';

afterEach(closeAll);

describe('a quota that a purchase bought', () => {
  it('is used up after exactly as many requests, for good, and says where to buy again', async () => {
    let time = Date.UTC(2026, 10, 30, 23, 59);
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ now: () => time, upstreamUrl: upstream.url });
    const { plaintext, id } = await boughtKey(gateway, { planId: 'pack', once: true });
    const all = await Promise.all(Array.from({ length: 12 }, () => gateway.get('/', plaintext)));
    expect(all.filter((response) => response.status === 200)).toHaveLength(5);
    expect(upstream.requests).toHaveLength(5);
    const refused = all.find(({ status }) => status === 402) as Response;
    expect(refused.headers.get('retry-after')).toBeNull();
    expect(refused.headers.get('ratelimit-policy')).toBe('"hour";q=50;w=3600, "purchase";q=5');
    expect(refused.headers.get('ratelimit')).toMatch(/^"hour";r=45;t=\d+, "purchase";r=0$/);
    expect(refused.headers.get('x-ratelimit-remaining'), 'of what renews').toBe('45');
    expect(await refused.json()).toMatchObject({
      code: 'requests_used_up',
      detail: 'The plan Pack has 5 requests, and all of them are used.',
      'violated-policies': ['purchase'],
      manage_url: 'https://buy.example.com/',
    });
    time = Date.UTC(2027, 5, 1);
    expect((await gateway.get('/', plaintext)).status, 'it does not renew').toBe(402);
    const state = { limits: expect.any(Array), quota: { limit: 5, used: 5, remaining: 0, resets_at: null } };
    expect(await (await gateway.get('/quota', plaintext)).json()).toEqual(state);
    expect(await (await gateway.get('/whoami', plaintext)).json()).toMatchObject(state);
    const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    expect(metrics).toContain('tollgate_gateway_refusals_total{code="requests_used_up"} 8');
    await gateway.close();
    expect(await gateway.keystore.findKeyFacts(id), 'refused requests are not taken').toMatchObject({
      usedInAll: 5,
    });
  });

  it('goes on after a restart in another month, and with the key that replaces it', async () => {
    let time = Date.UTC(2026, 10, 30);
    const first = await startTestGateway({ now: () => time });
    const { plaintext, id } = await boughtKey(first, { planId: 'pack', once: true });
    for (let i = 0; i < 3; i++) await first.get('/', plaintext);
    await first.close();
    time = Date.UTC(2026, 11, 2);
    const second = await startTestGateway({ now: () => time, keystoreUrl: first.keystoreUrl });
    const get = async (key: string) => (await second.get('/', key)).status;
    expect(await get(plaintext)).toBe(200);
    const fresh = await second.keystore.rotateKey({ id, overlapMs: 60_000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect([await get(fresh.plaintext), await get(fresh.plaintext), await get(plaintext)]).toEqual([
      200, 402, 402,
    ]);
  });

  it('is multiplied by the quantity bought', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await boughtKey(gateway, { planId: 'units', once: true, quantity: 3 });
    const statuses: number[] = [];
    for (let i = 0; i < 7; i++) statuses.push((await gateway.get('/', plaintext)).status);
    expect(statuses).toEqual([...Array(6).fill(200), 402]);
    const last = await gateway.get('/', plaintext);
    expect(last.headers.get('ratelimit-policy')).toBe('"purchase";q=6');
    expect(last.headers.get('ratelimit')).toBe('"purchase";r=0');
    expect([...last.headers.keys()].filter((name) => name.startsWith('x-ratelimit'))).toEqual([]);
  });

  it('outweighs a full window: who can never come back is not told when to', async () => {
    const gateway = await startTestGateway({
      plans:
        'plans:\n  pack: { name: Pack, quota: { requests: 2, per: purchase }, limits: [{ requests: 2, per: hour }] }\n',
    });
    const { plaintext } = await gateway.key('pack');
    const statuses: number[] = [];
    for (let i = 0; i < 3; i++) statuses.push((await gateway.get('/', plaintext)).status);
    expect(statuses).toEqual([200, 200, 402]);
  });

  it('of a plan that is sold as a subscription is the month’s', async () => {
    let time = Date.UTC(2026, 10, 30);
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext } = await boughtKey(gateway, { planId: 'pack' });
    for (let i = 0; i < 5; i++) expect((await gateway.get('/', plaintext)).status).toBe(200);
    const refused = await gateway.get('/', plaintext);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '86400']);
    expect(await refused.json()).toMatchObject({
      code: 'quota_exceeded',
      'violated-policies': ['month'],
      manage_url: 'https://buy.example.com/billing/manage',
    });
    time = Date.UTC(2026, 11, 1);
    expect((await gateway.get('/', plaintext)).status).toBe(200);
  });
});

describe('two gateways on one keystore', () => {
  it.each([
    ['month', 429],
    ['purchase', 402],
  ])('learn of each other’s requests in a quota per %s with every write', async (per, usedUp) => {
    const plans = `plans:\n  p: { name: P, quota: { requests: 5, per: ${per} } }\n`;
    const a = await startTestGateway({ plans });
    const b = await startTestGateway({ plans, keystoreUrl: a.keystoreUrl });
    const { plaintext, id } = await a.key('p');
    const inLedger = async (requests: number) =>
      eventually(async () =>
        expect(await a.keystore.findKeyFacts(id)).toMatchObject({ usedInAll: requests }),
      );
    const statuses: number[] = [];
    for (const [gateway, total] of [
      [a, 1],
      [a, 2],
      [b, 3],
      [a, 4],
      [b, 5],
    ] as const) {
      statuses.push((await gateway.get('/', plaintext)).status);
      await inLedger(total);
    }
    statuses.push((await b.get('/', plaintext)).status);
    // What the other one wrote since our last write is all that can be admitted too many.
    statuses.push((await a.get('/', plaintext)).status);
    await inLedger(6);
    statuses.push((await a.get('/', plaintext)).status, (await b.get('/', plaintext)).status);
    expect(statuses).toEqual([200, 200, 200, 200, 200, usedUp, 200, usedUp, usedUp]);
  });
});
