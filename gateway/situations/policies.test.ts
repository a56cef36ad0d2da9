import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, startTestGateway, startUpstream, type TestGateway } from '../../test/gateways.ts';
import { openTestKeystore } from '../../test/keystores.ts';
import { POLICY_DEFAULTS, type RoutePolicy, routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

const PLANS = `plans:
  open: { name: Open }
  lab: { name: Lab, features: [beta, batch] }
  small: { name: Small, limits: [{ requests: 10, per: hour }], quota: 12 }
`;

type Upstream = NonNullable<Parameters<typeof startUpstream>[0]>;

async function gatewayWith(policy: Partial<RoutePolicy>, upstream?: Upstream) {
  const { url } = await startUpstream(upstream);
  const routes = [{ ...routeTo(url, 5000), policy: { ...POLICY_DEFAULTS, ...policy } }];
  const gateway = await startTestGateway({ upstreamUrl: url, plans: PLANS, routes });
  return {
    gateway,
    left: async (key: string) => {
      const state = (await (await gateway.get('/quota', key)).json()) as {
        limits: { remaining: number }[];
        quota: { remaining: number; used: number };
      };
      return [state.limits[0]?.remaining, state.quota.remaining, state.quota.used];
    },
  };
}

describe('a route for those who have a feature', () => {
  it('takes the plans that include it, names what others lack, and where to get it', async () => {
    const { gateway } = await gatewayWith({ features: ['beta', 'batch'] });
    const lab = await gateway.key('lab');
    const small = await gateway.key('small');
    expect((await gateway.get('/', lab.plaintext)).status).toBe(200);
    const refused = await gateway.get('/', small.plaintext);
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({
      code: 'feature_required',
      detail: 'The plan Small does not include "beta", "batch".',
      missing_features: ['beta', 'batch'],
      manage_url: 'https://buy.example.com/billing/manage',
      remedy: expect.any(String),
    });
    expect((await gateway.get('/quota', small.plaintext)).status, 'not a matter of our own endpoints').toBe(
      200,
    );
  });
});

describe('the cost of a request', () => {
  it('is counted in windows, quota and ledger; refused is what does not fit', async () => {
    const { gateway, left } = await gatewayWith({ cost: 4 });
    const { plaintext, id } = await gateway.key('small');
    const first = await gateway.get('/', plaintext);
    expect(first.headers.get('ratelimit')).toMatch(/^"hour";r=6;t=\d+, "month";r=8;t=\d+$/);
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect((await gateway.get('/', plaintext)).status).toBe(429);
    expect(await left(plaintext)).toEqual([2, 4, 8]);
    await gateway.close();
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 8 });
  });

  it('may be nothing: then a key is needed, and nothing of its limits', async () => {
    const { gateway, left } = await gatewayWith({ cost: 0 });
    const { plaintext } = await gateway.key('small');
    for (let i = 0; i < 15; i++) expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(await left(plaintext)).toEqual([10, 12, 0]);
    expect((await gateway.get('/')).status).toBe(401);
  });

  it('told by the answer takes the place of the estimate, in the headers of that answer too', async () => {
    let cost = '1';
    const { gateway, left } = await gatewayWith({ cost: { header: 'X-Cost', estimate: 5 } }, (_req, res) =>
      res.setHeader('x-cost', cost).end('{}'),
    );
    const { plaintext, id } = await gateway.key('small');
    const cheap = await gateway.get('/', plaintext);
    expect(cheap.headers.get('ratelimit')).toMatch(/^"hour";r=9;t=\d+, "month";r=11;t=\d+$/);
    expect(cheap.headers.get('x-cost'), 'the client may know').toBe('1');
    cost = '30';
    const dear = await gateway.get('/', plaintext);
    expect([dear.status, dear.headers.get('x-ratelimit-remaining')]).toEqual([200, '0']);
    expect(await left(plaintext)).toEqual([0, 0, 31]);
    expect((await gateway.get('/', plaintext)).status).toBe(429);
    await gateway.close();
    expect(await gateway.keystore.findKeyFacts(id)).toMatchObject({ usedThisMonth: 31 });
  });

  it.each([undefined, '', '-3', '1.5', '0x10', '1 2', 'many', '99999999999', ['1', '2']])(
    'told as %j is not understood: the estimate stays, with one line in the log',
    async (said) => {
      const { gateway, left } = await gatewayWith(
        { cost: { header: 'x-cost', estimate: 3 } },
        (_req, res) => {
          if (said !== undefined) res.setHeader('x-cost', said);
          res.end('{}');
        },
      );
      const { plaintext } = await gateway.key('small');
      await gateway.get('/', plaintext);
      expect(await left(plaintext)).toEqual([7, 9, 3]);
    },
  );

  it('stays as estimated when there is no answer, and is never free before it', async () => {
    const { gateway, left } = await gatewayWith({ cost: { header: 'x-cost', estimate: 0 } }, (req, res) => {
      if (req.url === '/fail') req.socket.destroy();
      else res.setHeader('x-cost', '10').end('{}');
    });
    const { plaintext } = await gateway.key('small');
    expect((await gateway.get('/fail', plaintext, { method: 'POST' })).status).toBe(502);
    expect(await left(plaintext)).toEqual([10, 12, 0]);
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect((await gateway.get('/', plaintext)).status).toBe(429);
  });
});

describe('requests of one key at a time', () => {
  async function concurrent() {
    const waiting: { end(): void; fail(): void }[] = [];
    const made = await gatewayWith({ concurrency: 2 }, (req, res) => {
      if (req.url === '/quick') res.end('{}');
      else waiting.push({ end: () => res.end('{}'), fail: () => req.socket.destroy() });
    });
    const { plaintext } = await made.gateway.key('open');
    return { ...made, waiting, plaintext };
  }
  const quick = async (gateway: TestGateway, key: string) => (await gateway.get('/quick', key)).status;

  it('are limited on the route, for all keys of a rotation chain, and others do not feel it', async () => {
    const { gateway, waiting, plaintext } = await concurrent();
    const other = await gateway.key('open');
    const slow = [gateway.get('/slow', plaintext), gateway.get('/slow', plaintext)];
    await vi.waitFor(() => expect(waiting).toHaveLength(2));
    const refused = await gateway.get('/quick', plaintext);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
    expect(await refused.json()).toMatchObject({ code: 'too_many_concurrent' });
    expect(await quick(gateway, other.plaintext)).toBe(200);
    for (const each of waiting) each.end();
    await Promise.all(slow);
    for (let i = 0; i < 5; i++) expect(await quick(gateway, plaintext)).toBe(200);
  });

  it('that fail, or whose clients leave, give their place back, once', async () => {
    const { gateway, waiting, plaintext } = await concurrent();
    for (let round = 0; round < 3; round++) {
      const before = waiting.length;
      const client = connect(gateway.port, '127.0.0.1');
      client.write(`GET /slow HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\n\r\n`);
      const failing = gateway.get('/slow', plaintext, { method: 'POST' });
      await vi.waitFor(() => expect(waiting).toHaveLength(before + 2));
      expect(await quick(gateway, plaintext)).toBe(429);
      client.destroy();
      for (const each of waiting.slice(before)) each.fail();
      expect((await failing).status).toBe(502);
      await vi.waitFor(async () => expect(await quick(gateway, plaintext)).toBe(200));
    }
    // As many places as there were, and no more.
    const slow = [gateway.get('/slow', plaintext), gateway.get('/slow', plaintext)];
    await vi.waitFor(() => expect(waiting).toHaveLength(8));
    expect(await quick(gateway, plaintext)).toBe(429);
    for (const each of waiting) each.end();
    await Promise.all(slow);
  });
});

describe('a key that is limited to addresses', () => {
  it('is refused from anywhere else, by name, within a second of the change and in its replacement too', async () => {
    const { gateway } = await gatewayWith({});
    const elsewhere = await openTestKeystore({ url: gateway.keystoreUrl });
    const { plaintext, id } = await gateway.key('open');
    const allow = (addresses: string[] | null) => elsewhere.allowAddresses({ id, addresses, actor: 't' });
    const status = async (key = plaintext) => (await gateway.get('/', key)).status;
    expect(await status()).toBe(200);
    await allow(['192.0.2.0/24']);
    await vi.waitFor(async () => expect(await status()).toBe(403));
    const refused = await gateway.get('/whoami', plaintext);
    expect(await refused.json()).toMatchObject({
      code: 'address_not_allowed',
      detail: 'This key may not be used from 127.0.0.1.',
    });
    const fresh = await elsewhere.rotateKey({ id, overlapMs: 60_000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    expect(await status(fresh.plaintext)).toBe(403);
    await allow(['192.0.2.0/24', '127.0.0.0/8']);
    await vi.waitFor(async () => expect(await status()).toBe(200));
    await elsewhere.close();
  });
});
