import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { routeTo } from '../gateway/routes/route-spec.ts';
import {
  boughtKey,
  closeAll,
  sendRaw,
  startTestGateway,
  startUpstream,
  type TestGateway,
  type TestUpstream,
} from './gateways.ts';
import { findProxy, PROXIES, type ProxyName, type RunningProxy, startProxy } from './proxies.ts';

afterAll(closeAll);

const IDENTITY = ['x-consumer-id', 'x-consumer-plan', 'x-credential-identifier', 'x-request-id'];
/** What nginx leaves away is as good as empty. */
const EMPTY = [undefined, ''];

type Setting = { upstream: TestUpstream; gateway: TestGateway; proxy: RunningProxy };

/** A proxy with the documented configuration, Tollgate beside it, and an API behind it that has more than one route. */
async function startSetting(name: ProxyName, cached = false): Promise<Setting> {
  const upstream = await startUpstream((req, res) => {
    const status = Number(/status=(\d+)/.exec(req.url as string)?.[1] ?? 200);
    res.writeHead(status, { 'Content-Type': 'text/plain' });
    req.pipe(res);
  });
  const everything = routeTo(upstream.url, 1000);
  const { policy } = everything;
  const gateway = await startTestGateway({
    upstreamUrl: upstream.url,
    routes: [
      everything,
      { ...everything, name: 'public', path: '/public', policy: { ...policy, access: 'public' } },
      { ...everything, name: 'read', path: '/read', policy: { ...policy, methods: ['GET', 'HEAD'] } },
    ],
  });
  const ports = { tollgate: gateway.internalPort, api: upstream.port };
  return { upstream, gateway, proxy: await startProxy(name, ports, { cached }) };
}

const withKey = (key: string, init: RequestInit = {}): RequestInit => ({
  ...init,
  headers: { ...(init.headers as object), 'X-API-Key': key },
});

async function problemOf(response: Response) {
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const body = (await response.json()) as Record<string, unknown>;
  expect(body.status).toBe(response.status);
  return { status: response.status, code: body.code, body };
}

describe.each(PROXIES)('%s with the configuration of docs/forward-auth.md', (name) => {
  const found = findProxy(name);
  let setting: Setting;
  let ask: (path: string, init?: RequestInit) => Promise<Response>;

  beforeAll(async () => {
    if (!found) return;
    setting = await startSetting(name);
    ask = (path, init) => fetch(setting.proxy.url + path, init);
  });
  beforeEach(({ skip }) => skip(!found, `there is no ${name} on this machine`));

  it('a good key goes through, without the key and with who sent it', async () => {
    const { gateway, upstream } = setting;
    const key = await boughtKey(gateway);
    const response = await ask('/v1/items?a=1', withKey(key.plaintext, { method: 'POST', body: 'hello' }));
    expect([response.status, await response.text()]).toEqual([200, 'hello']);
    const request = upstream.requests.at(-1)!;
    expect(request).toMatchObject({
      method: 'POST',
      url: '/v1/items?a=1',
      headers: {
        'x-consumer-plan': 'open',
        'x-credential-identifier': key.id,
        'x-consumer-id': expect.stringMatching(/^cust_/),
        'x-request-id': response.headers.get('x-request-id'),
      },
    });
    expect(request.rawHeaders.join('\n')).not.toContain(key.plaintext);
    expect(await ask('/', { headers: { Authorization: `Bearer ${key.plaintext}` } })).toMatchObject({
      status: 200,
    });
    expect(upstream.requests.at(-1)!.rawHeaders.join('\n')).not.toContain(key.plaintext);
  });

  it('without a key, with a wrong one, with two of them', async () => {
    const { gateway, upstream } = setting;
    const before = upstream.requests.length;
    const { plaintext } = await gateway.key();
    const missing = await ask('/');
    expect(missing.headers.get('www-authenticate')).toBe('Bearer realm="api"');
    expect(await problemOf(missing)).toMatchObject({ status: 401, code: 'missing_key' });
    const wrong = await ask('/', withKey('nonsense'));
    expect(wrong.headers.get('www-authenticate')).toBe('Bearer realm="api", error="invalid_token"');
    const { body } = await problemOf(wrong);
    expect(body).toMatchObject({
      status: 401,
      code: 'invalid_key',
      request_id: wrong.headers.get('x-request-id'),
    });
    const two = await ask('/', withKey(plaintext, { headers: { Authorization: 'Bearer another' } }));
    expect(await problemOf(two)).toMatchObject({ status: 400, code: 'conflicting_credentials' });
    expect(upstream.requests).toHaveLength(before);
  });

  it('what a client says of who it is does not get through, in any spelling', async () => {
    const { gateway, upstream, proxy } = setting;
    const { plaintext, id } = await gateway.key();
    const forged = IDENTITY.flatMap((header) => [
      header,
      header.toUpperCase(),
      header.replaceAll('-', '_'),
      header.replace(/-([^-]*)$/, '_$1'),
    ]).map((header) => `${header}: forged`);
    const lines = [
      'GET /v1 HTTP/1.1',
      'Host: api',
      'Connection: close',
      `X-API-Key: ${plaintext}`,
      ...forged,
    ];
    expect(await sendRaw(proxy.port, `${lines.join('\r\n')}\r\n\r\n`)).toMatch(/^HTTP\/1.1 200 /);
    const { headers, rawHeaders } = upstream.requests.at(-1)!;
    expect(rawHeaders.join('\n')).not.toContain('forged');
    expect(headers).toMatchObject({ 'x-consumer-plan': 'open', 'x-credential-identifier': id });
    // A key that the seller made has no customer.
    expect(EMPTY).toContain(headers['x-consumer-id']);

    const open = [`GET /public HTTP/1.1`, 'Host: api', 'Connection: close', ...forged];
    expect(await sendRaw(proxy.port, `${open.join('\r\n')}\r\n\r\n`)).toMatch(/^HTTP\/1.1 200 /);
    expect(upstream.requests.at(-1)!.rawHeaders.join('\n')).not.toContain('forged');
    expect(EMPTY).toContain(upstream.requests.at(-1)!.headers['x-credential-identifier']);
  });

  it('nor can a client have taken away what Tollgate says, or have the key passed on', async () => {
    const { gateway, upstream, proxy } = setting;
    const { plaintext, id } = await gateway.key();
    const send = (lines: string[]) => {
      const head = ['GET /v1 HTTP/1.1', 'Host: api', `X-API-Key: ${plaintext}`, ...lines];
      return sendRaw(proxy.port, `${head.join('\r\n')}\r\n\r\n`);
    };
    const named = [...IDENTITY, 'X-Forwarded-Uri', 'X-Forwarded-For', 'X-API-Key', 'Authorization'].join(
      ', ',
    );
    expect(await send([`Connection: close, ${named}`])).toMatch(/^HTTP\/1.1 200 /);
    const { headers, rawHeaders } = upstream.requests.at(-1)!;
    expect(headers).toMatchObject({ 'x-consumer-plan': 'open', 'x-credential-identifier': id });
    expect(headers.connection ?? '').not.toMatch(/x-/i);
    expect(rawHeaders.join('\n')).not.toContain(plaintext);

    const twice = ['Connection: close', `Authorization: Bearer ${plaintext}`, `X_API_Key: ${plaintext}`];
    expect(await send(twice)).toMatch(/^HTTP\/1.1 200 /);
    expect(upstream.requests.at(-1)!.rawHeaders.join('\n')).not.toContain(plaintext);
    expect(await send(['Connection: close', 'Authorization: Basic bWU6bWU='])).toMatch(/^HTTP\/1.1 200 /);
    expect(upstream.requests.at(-1)!.headers.authorization).toBe('Basic bWU6bWU=');

    const before = upstream.requests.length;
    const asProtocol = await fetch(proxy.url, {
      headers: { 'Sec-WebSocket-Protocol': `tollgate, tollgate.key.${plaintext}` },
    });
    expect([asProtocol.status, upstream.requests.length]).toEqual([401, before]);
  });

  it('what a client says of where it asks does not choose the route', async () => {
    const { proxy, upstream } = setting;
    const before = upstream.requests.length;
    const lines = [
      'GET /v1 HTTP/1.1',
      'Host: api',
      'Connection: close',
      'X-Forwarded-Uri: /public',
      'X-Forwarded-Method: HEAD',
      'X-Forwarded-Host: other',
      'X-Original-URL: http://api/public',
      'X-Original-URI: /public',
      'X-Original-Method: HEAD',
    ];
    expect(await sendRaw(proxy.port, `${lines.join('\r\n')}\r\n\r\n`)).toMatch(/^HTTP\/1.1 401 /);
    for (const path of ['/public/../v1', '/public/%2e%2e/v1', '//public', '/%70ublic/..;/v1']) {
      const request = `GET ${path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n`;
      expect(await sendRaw(proxy.port, request), path).toMatch(/^HTTP\/1.1 40[01] /);
    }
    expect(upstream.requests).toHaveLength(before);
  });

  it('method and path choose the route and its policy', async () => {
    const { gateway } = setting;
    const { plaintext } = await gateway.key();
    expect((await ask('/public/page')).status).toBe(200);
    expect((await ask('/read', withKey(plaintext))).status).toBe(200);
    const refused = await ask('/read/more?x=1', withKey(plaintext, { method: 'DELETE' }));
    expect(await problemOf(refused)).toMatchObject({ status: 405, code: 'method_not_allowed' });
  });

  it('a limit is told, counted, and survives as 429 with when to come again', async () => {
    const { gateway } = setting;
    const { plaintext, id } = await gateway.key('small');
    const remaining = [];
    for (let i = 0; i < 5; i++) {
      const response = await ask('/', withKey(plaintext));
      expect(response.status).toBe(200);
      expect(response.headers.get('ratelimit-policy')).toBe('"hour";q=5;w=3600, "day";q=8;w=86400');
      remaining.push(/r=(\d+)/.exec(response.headers.get('ratelimit') as string)?.[1]);
    }
    expect(remaining).toEqual(['4', '3', '2', '1', '0']);
    const limited = await ask('/', withKey(plaintext));
    const { body } = await problemOf(limited);
    expect(body).toMatchObject({ status: 429, code: 'rate_limited', 'violated-policies': ['hour'] });
    expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(3000);
    expect(limited.headers.get('ratelimit')).toMatch(/^"hour";r=0;t=\d+, "day";r=3;t=\d+$/);
    expect(limited.headers.get('x-ratelimit-remaining')).toBe('0');
    // The gateway's own listener counts in the same place.
    expect((await gateway.get('/', plaintext)).status).toBe(429);
    expect(gateway.lines.some((line) => line.includes(id))).toBe(true);
  });

  it('a key that has to be paid for gets its 402 and where to pay', async () => {
    const { gateway } = setting;
    const { plaintext } = await gateway.key('pack');
    for (let i = 0; i < 5; i++) expect((await ask('/', withKey(plaintext))).status).toBe(200);
    const unpaid = await ask('/', withKey(plaintext));
    expect((await problemOf(unpaid)).body).toMatchObject({
      status: 402,
      code: 'requests_used_up',
      manage_url: 'https://buy.example.com/',
    });
  });

  it.each([400, 401, 403, 429, 500, 503])('a %i of the API’s own stays as it is', async (status) => {
    const { plaintext } = await setting.gateway.key();
    const response = await ask(`/?status=${status}`, withKey(plaintext, { method: 'POST', body: 'mine' }));
    expect([response.status, await response.text()]).toEqual([status, 'mine']);
  });

  it('a revocation is in force within a second', async () => {
    const { gateway } = setting;
    const { plaintext, id } = await gateway.key();
    expect((await ask('/', withKey(plaintext))).status).toBe(200);
    await gateway.keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(
      async () =>
        expect(await problemOf(await ask('/', withKey(plaintext)))).toMatchObject({
          status: 401,
          code: 'revoked_key',
        }),
      { timeout: 1000, interval: 10 },
    );
  });

  it('a failure of ours is a 503, of a gateway that is gone too, and never the customer’s', async () => {
    const { gateway, proxy } = await startSetting(name);
    const known = await gateway.key();
    const unknown = await gateway.key();
    const get = (key: string) => fetch(proxy.url, withKey(key));
    expect((await get(known.plaintext)).status).toBe(200);
    await gateway.keystore.close();
    const outage = await get(unknown.plaintext);
    expect(outage.headers.get('retry-after')).toBe('1');
    expect(await problemOf(outage)).toMatchObject({ status: 503, code: 'keystore_unavailable' });
    expect((await get(known.plaintext)).status).toBe(200);
    await gateway.close();
    const gone = await get(known.plaintext);
    expect(gone.status).toBeGreaterThanOrEqual(502);
    expect(gone.status).toBeLessThanOrEqual(503);
  });
});

describe('nginx that keeps answers for a second', () => {
  const found = findProxy('nginx');
  let setting: Setting;
  beforeAll(async () => {
    if (found) setting = await startSetting('nginx', true);
  });
  beforeEach(({ skip }) => skip(!found, 'there is no nginx on this machine'));
  const get = (path: string, key: string, init?: RequestInit) =>
    fetch(setting.proxy.url + path, withKey(key, init));

  it('asks once for many, and each of them says who sent it', async () => {
    const { gateway, upstream } = setting;
    const { plaintext, id } = await gateway.key('small');
    const before = upstream.requests.length;
    for (let i = 0; i < 20; i++) expect((await get('/a', plaintext)).status).toBe(200);
    const forwarded = upstream.requests.slice(before);
    expect(forwarded.map(({ headers }) => headers['x-credential-identifier'])).toEqual(Array(20).fill(id));
    expect(new Set(forwarded.map(({ headers }) => headers['x-request-id'])).size).toBe(20);
    const quota = (await (await gateway.get('/quota', plaintext)).json()) as {
      limits: { remaining: number }[];
    };
    expect(quota.limits[0]!.remaining, 'what was kept is not counted').toBeGreaterThan(0);
  });

  it('an answer is not given to another key, path, method or client', async () => {
    const { gateway } = setting;
    const { plaintext } = await gateway.key();
    expect((await get('/read', plaintext)).status).toBe(200);
    expect((await get('/read', 'nonsense')).status).toBe(401);
    expect((await fetch(`${setting.proxy.url}/read`)).status).toBe(401);
    expect((await fetch(`${setting.proxy.url}/read`, { headers: { Authorization: plaintext } })).status).toBe(
      401,
    );
    expect((await get('/read', plaintext, { method: 'DELETE' })).status).toBe(405);
    expect((await fetch(`${setting.proxy.url}/public`)).status).toBe(200);
    expect((await fetch(`${setting.proxy.url}/v1`)).status).toBe(401);
  });

  it('a refusal is not kept, and a revocation is in force a second later', async () => {
    const { gateway } = setting;
    const { plaintext, id } = await gateway.key();
    expect((await get('/b', 'nonsense')).status).toBe(401);
    expect((await get('/b', plaintext)).status).toBe(200);
    await gateway.keystore.revokeKey({ id, reason: 'operator', actor: 't' });
    // The second that it is kept, on top of the second that a gateway has to learn of it.
    await vi.waitFor(async () => expect((await get('/b', plaintext)).status).toBe(401), {
      timeout: 2500,
      interval: 20,
    });
  });
});
