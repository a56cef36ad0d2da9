import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { boughtKey, closeAll, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { temporaryFolder } from '../../test/keystores.ts';
import { ALL_FORMS, ask, parseAnswer, type Question, saidBy } from '../../test/proxy-questions.ts';
import { POLICY_DEFAULTS, type RoutePolicy, type RouteSpec, routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

/** Routes below one host, each with a policy of its own. */
function routes(policies: Record<string, Partial<RoutePolicy>>, hosts: string[] = []): RouteSpec[] {
  return Object.entries(policies).map(([path, policy]) => ({
    ...routeTo('http://127.0.0.1:9', 1000),
    name: path,
    path,
    hosts,
    policy: { ...POLICY_DEFAULTS, ...policy },
  }));
}

describe.each(ALL_FORMS)('asked in the form %s', (form) => {
  it('says who sent a good request, and counts it', async () => {
    const gateway = await startTestGateway();
    const key = await boughtKey(gateway, { planId: 'small' });
    const { status, headers } = await ask(gateway, form, { key: key.plaintext });
    expect(status).toBe(200);
    expect(headers).toMatchObject({
      'x-consumer-id': expect.stringMatching(/^cust_/),
      'x-consumer-plan': 'small',
      'x-credential-identifier': key.id,
      'x-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
      ratelimit: expect.stringMatching(/^"hour";r=4;t=/),
      'cache-control': 'no-store',
      'content-length': '0',
    });
    expect(JSON.stringify(headers)).not.toContain(key.plaintext);
    await ask(gateway, form, { key: key.plaintext });
    const response = await gateway.get('/', key.plaintext);
    expect(response.headers.get('x-ratelimit-remaining'), 'it is the same count').toBe('2');
  });

  it('writes down what it refuses: whose key, why, and what was asked for', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key('small');
    await gateway.keystore.revokeKey({ id, reason: 'leaked', actor: 'test' });
    const question = { key: plaintext, path: '/v1/items', host: 'api.example.com' };
    const { headers } = await ask(gateway, form, question);
    await vi.waitFor(async () => {
      const found = await gateway.keystore.findRefusal(headers['x-request-id'] as string);
      expect(found).toMatchObject({
        keyId: id,
        code: 'revoked_key',
        detail: expect.stringContaining('known to others'),
        method: 'GET',
        host: 'api.example.com',
        path: '/v1/items',
        route: 'default',
      });
    });
  });

  it('sets every identity header also where there is nothing to say', async () => {
    const gateway = await startTestGateway({ routes: routes({ '/': {}, '/open': { access: 'public' } }) });
    const { plaintext } = await gateway.key();
    expect((await ask(gateway, form, { key: plaintext })).headers).toMatchObject({ 'x-consumer-id': '' });
    const { status, headers } = await ask(gateway, form, { path: '/open/a', key: 'nonsense' });
    expect(status).toBe(200);
    expect(headers).toMatchObject({
      'x-consumer-id': '',
      'x-consumer-plan': '',
      'x-credential-identifier': '',
    });
  });

  it('method, host and path choose the route, and its policy applies', async () => {
    const gateway = await startTestGateway({
      routes: [
        ...routes(
          {
            '/': { access: 'public' },
            '/read': { methods: ['GET'] },
            '/b': { features: ['b'] },
            '/five': { cost: 5 },
          },
          ['api.example.com'],
        ),
        ...routes({ '/': {} }, ['other.example.com']),
      ],
    });
    const { plaintext: key } = await gateway.key('small');
    const code = async (question: Question) => {
      const { status, problem } = await ask(gateway, form, { key, ...question });
      return problem.code ?? status;
    };
    expect(await code({ path: '/?a=/read' })).toBe(200);
    expect(await code({ path: '/read?a=1', method: 'DELETE' })).toBe('method_not_allowed');
    expect(await code({ path: '/b' })).toBe('feature_required');
    expect(await code({ host: 'other.example.com:8443', key: 'nonsense' })).toBe('invalid_key');
    expect(await code({ host: 'unknown.example.com' })).toBe('not_found');
    expect(await code({ path: '/x/../read' })).toBe('invalid_request');
    expect(await code({ path: '/five' })).toBe(200);
    expect(await code({ path: '/five' }), 'five of five are counted').toBe('rate_limited');
  });

  it('the address of the client is what the proxy says of it', async () => {
    const gateway = await startTestGateway();
    const codes = new Set<unknown>();
    for (let i = 0; i < 31; i++) {
      const { problem } = await ask(gateway, form, { key: 'typo', address: '203.0.113.9' });
      codes.add(problem.code);
    }
    expect([...codes]).toEqual(['invalid_key', 'too_many_bad_keys']);
    expect((await ask(gateway, form, { key: 'typo', address: '203.0.113.10' })).status).toBe(401);
  });

  it('a proxy that does not say once what it asks about is not answered, and the log says why', async () => {
    const gateway = await startTestGateway();
    const { plaintext: key } = await gateway.key();
    for (const [name, value] of saidBy(form)) {
      const { status, problem } = await ask(gateway, form, { key }, { without: name });
      expect([name, status, problem.code]).toEqual([name, 500, 'proxy_misconfigured']);
      // That one is a list, and of a list the end is believed.
      if (name === 'X-Forwarded-For') continue;
      const twice = await ask(gateway, form, { key }, { more: [`${name}: ${value}`] });
      expect([name, twice.status, twice.problem.code]).toEqual([name, 500, 'proxy_misconfigured']);
    }
    expect(gateway.lines.filter((line) => line.includes('A proxy cannot be answered'))).toHaveLength(1);
  });
});

it('a method that nobody knows is refused and not repeated in a log: it may be anything', async () => {
  const file = join(temporaryFolder(), 'access.log');
  const gateway = await startTestGateway({ env: { ACCESS_LOG: file } });
  const { plaintext: key } = await gateway.key();
  for (const form of ['forwarded', 'nginx'] as const)
    for (const method of [key, 'GET","key":"forged', 'get']) {
      const { status, problem } = await ask(gateway, form, { key, method });
      expect([status, problem.code]).toEqual([form === 'nginx' ? 403 : 400, 'invalid_request']);
    }
  expect((await ask(gateway, 'forwarded', { key, method: 'REPORT' })).status).toBe(200);
  await vi.waitFor(() => expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(8));
  const text = readFileSync(file, 'utf8') + gateway.lines.join('');
  expect(text).not.toContain(key);
  expect(text).not.toContain('forged');
});

it('each form reads its own headers only: those of another may be the client’s', async () => {
  const gateway = await startTestGateway({ routes: routes({ '/': {}, '/open': { access: 'public' } }) });
  const nginx = ['X-Original-Method: GET', 'X-Original-URL: http://api/open', 'X-Real-IP: 203.0.113.77'];
  const forwarded = ['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /open', 'X-Forwarded-Host: api'];
  const others = { forwarded: nginx, nginx: forwarded, envoy: [...nginx.slice(0, 2), ...forwarded] };
  for (const form of ALL_FORMS)
    expect((await ask(gateway, form, {}, { more: others[form] })).status, form).toBe(401);
});

it('nginx gets 403 for what it cannot hand on, and the answer in headers, in ASCII', async () => {
  const plans = 'plans:\n  small: { name: Petit café ☕, limits: [{ requests: 1, per: hour }] }\n';
  const gateway = await startTestGateway({ plans });
  const { plaintext: key } = await gateway.key('small');
  expect((await ask(gateway, 'nginx', { key })).status).toBe(200);
  const { status, headers, problem } = await ask(gateway, 'nginx', { key });
  expect(status).toBe(403);
  expect(headers).toMatchObject({
    'x-tollgate-status': '429',
    'x-tollgate-code': 'rate_limited',
    'retry-after': expect.stringMatching(/^\d+$/),
    ratelimit: expect.stringMatching(/^"hour";r=0/),
  });
  expect(headers['x-tollgate-problem']).toMatch(/^[ -~]+$/);
  expect(JSON.parse(headers['x-tollgate-problem'] as string)).toEqual(problem);
  expect(problem.detail).toContain('Petit café ☕');
  await gateway.keystore.close();
  const unknown = await ask(gateway, 'nginx', {
    key: mintKey('tg', 'test').plaintext,
  });
  expect([unknown.status, unknown.headers['x-tollgate-status']]).toEqual([503, '503']);
});

it('who is neither on this machine nor a trusted proxy is not answered', async () => {
  const own = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address;
  // A machine may have no address but loopback; then nobody foreign can be played.
  const address = own ?? '127.0.0.1';
  const gateway = await startTestGateway({ env: { INTERNAL_HOST: '0.0.0.0' } });
  const trusting = await startTestGateway({ env: { INTERNAL_HOST: '0.0.0.0', TRUSTED_PROXIES: address } });
  const { plaintext: key } = await gateway.key();
  const from = (port: number, key: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ port, host: address, localAddress: address });
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk;
      });
      socket.on('error', reject);
      socket.on('close', () => resolve(received));
      socket.write(
        `GET /verify HTTP/1.1\r\nHost: t\r\nX-API-Key: ${key}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Host: a\r\n` +
          'X-Forwarded-Uri: /\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n',
      );
    });
  const asked = parseAnswer(await from(gateway.internalPort, key));
  if (own !== undefined) {
    expect([asked.status, asked.problem.code]).toEqual([500, 'proxy_misconfigured']);
    expect(gateway.lines.some((line) => line.includes('TRUSTED_PROXIES') && line.includes(own))).toBe(true);
  }
  expect(parseAnswer(await from(trusting.internalPort, (await trusting.key()).plaintext)).status).toBe(200);
});

it('a target that is no path is the client’s mistake', async () => {
  const gateway = await startTestGateway();
  for (const path of ['*', '/a#b', 'http://evil/']) {
    const { status, problem } = await ask(gateway, 'forwarded', { path });
    expect([status, problem.code], path).toEqual([400, 'invalid_request']);
  }
});

it('is told in metrics and log, and never with the query', async () => {
  const accessLog = join(temporaryFolder(), 'access.log');
  const gateway = await startTestGateway({ env: { ACCESS_LOG: accessLog } });
  const { plaintext: key, id } = await gateway.key();
  await ask(gateway, 'nginx', { key, path: '/v1/items?secret=1' });
  await ask(gateway, 'nginx');
  const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  expect(metrics).toContain('tollgate_gateway_requests_total{outcome="verified",status="2xx"} 1');
  expect(metrics).toContain('tollgate_gateway_refusals_total{code="missing_key"} 1');
  const line = gateway.lines.find((each) => each.includes('"verified"')) as string;
  expect(JSON.parse(line)).toMatchObject({ method: 'GET', path: '/v1/items', status: 200, keyId: id });
  expect(gateway.lines.join('\n')).not.toContain('secret=1');
  await gateway.close();
  const [verified = '', refused = ''] = readFileSync(accessLog, 'utf8').split('\n');
  expect(JSON.parse(verified)).toMatchObject({
    address: '203.0.113.9',
    host: 'api.example.com',
    path: '/v1/items',
    status: 200,
    outcome: 'verified',
    key: id,
  });
  expect(JSON.parse(refused)).toMatchObject({ status: 401, outcome: 'refused', code: 'missing_key' });
});

it('answers until the gateway has stopped, and usage of the last moment is in the ledger', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const upstream = await startUpstream((_req, res) => void held.then(() => res.end('{}')));
  const gateway = await startTestGateway({ upstreamUrl: upstream.url });
  const { plaintext: key } = await gateway.key('monthly');
  const slow = gateway.get('/', key);
  await vi.waitFor(() => expect(upstream.requests).toHaveLength(1));
  await ask(gateway, 'nginx', { key });
  const closed = gateway.close();
  const last = await ask(gateway, 'nginx', { key });
  expect(last.status).toBe(200);
  release();
  await Promise.all([slow, closed]);
  await expect(ask(gateway, 'nginx', { key })).rejects.toThrow('ECONNREFUSED');
  const again = await startTestGateway({ keystoreUrl: gateway.keystoreUrl });
  const { quota } = (await (await again.get('/quota', key)).json()) as { quota: { used: number } };
  expect(quota.used).toBe(3);
});

it('requests under way on a route are the proxy’s to limit: a question is over when it is answered', async () => {
  const gateway = await startTestGateway({ routes: routes({ '/': { concurrency: 1 } }) });
  const { plaintext: key } = await gateway.key();
  for (let i = 0; i < 3; i++) expect((await ask(gateway, 'nginx', { key })).status).toBe(200);
});

it('a key that the proxy would pass on as a WebSocket subprotocol is not taken', async () => {
  const gateway = await startTestGateway();
  const { plaintext: key } = await gateway.key();
  const more = [`Sec-WebSocket-Protocol: tollgate, tollgate.key.${key}`];
  expect((await ask(gateway, 'nginx', {}, { more })).headers['x-tollgate-code']).toBe('missing_key');
  expect((await ask(gateway, 'nginx', { key }, { more })).status).toBe(200);
});
