import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { type RouteSpec, routeTo } from '../routes/route-spec.ts';
import type { Route } from '../routes/routes.ts';
import { upstreamTarget } from './upstream-headers.ts';

afterEach(closeAll);

const SECRET = { header: 'X-Gateway-Secret', value: 'opensesame' };

/** @param change what is different from the route of `UPSTREAM_URL` */
async function behind(
  change: (route: RouteSpec) => Partial<RouteSpec> = () => ({}),
  respond: Parameters<typeof startUpstream>[0] = (_req, res) => res.end('{}'),
) {
  const upstream = await startUpstream(respond);
  const route = routeTo(upstream.url, 5000);
  const gateway = await startTestGateway({
    upstreamUrl: upstream.url,
    routes: [{ ...route, ...change(route) }],
  });
  const { plaintext: key } = await gateway.key();
  const ask = (lines: string[] = [], target = '/') =>
    sendRaw(
      gateway.port,
      `GET ${target} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n${[...lines, 'Connection: close'].join('\r\n')}\r\n\r\n`,
    );
  return { upstream, ask };
}

describe('what the upstream is told', () => {
  it('Connection cannot name away what is ours', async () => {
    const { upstream, ask } = await behind((route) => ({ upstream: { ...route.upstream, secret: SECRET } }));
    await ask([
      'Connection: X-Consumer-ID, X-Consumer-Plan, X-Credential-Identifier, X-Request-ID, Via, X-Own',
      'Connection: x-forwarded-for,x-forwarded-host,x-gateway-secret,host,content-length',
      'X-Own: 1',
    ]);
    const { headers } = upstream.requests[0]!;
    expect(headers).toMatchObject({
      'x-consumer-id': '',
      'x-consumer-plan': 'open',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-host': 'h',
      'x-gateway-secret': SECRET.value,
      via: '1.1 tollgate',
    });
    expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers['x-credential-identifier']).not.toBe('');
    expect(headers['x-own']).toBeUndefined();
  });

  it('the secret of its own, never a client’s, in whatever spelling', async () => {
    const { upstream, ask } = await behind((route) => ({ upstream: { ...route.upstream, secret: SECRET } }));
    await ask([
      'X-Gateway-Secret: guess',
      'x_gateway-SECRET: guess',
      'X-GATEWAY-SECRET: guess',
      'X-Other: 1',
    ]);
    const { rawHeaders } = upstream.requests[0]!;
    expect(rawHeaders.join('\n')).not.toContain('guess');
    expect(rawHeaders.filter((text) => /^x.gateway.secret$/i.test(text))).toEqual([SECRET.header]);
    expect(upstream.requests[0]?.headers).toMatchObject({ 'x-gateway-secret': SECRET.value, 'x-other': '1' });
  });

  it('whom the request came through: Via grows by one', async () => {
    const { upstream, ask } = await behind();
    await ask(['Via: 1.0 fred', 'via: 1.1 p.example.net']);
    expect(upstream.requests[0]?.headers.via).toBe('1.0 fred, 1.1 p.example.net, 1.1 tollgate');
  });

  it('traceparent and tracestate as they came, and none when none came', async () => {
    const { upstream, ask } = await behind();
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await ask([`traceparent: ${traceparent}`, 'tracestate: a=1,b=2']);
    await ask();
    expect(upstream.requests.map(({ headers }) => [headers.traceparent, headers.tracestate])).toEqual([
      [traceparent, 'a=1,b=2'],
      [undefined, undefined],
    ]);
  });
});

describe('what the client is told', () => {
  it('Via and the request id, whatever the upstream says of them and names in Connection', async () => {
    const { ask } = await behind(undefined, (_req, res) => {
      res.writeHead(200, [
        ['Via', '1.1 inner'],
        ['X-Request-ID', 'theirs'],
        ['Connection', 'X-Request-ID, Via-Not, X-Hop, close'],
        ['X-Hop', '1'],
      ]);
      res.end('{}');
    });
    const answer = await ask();
    expect(answer.match(/^via: .*$/gim)).toEqual(['Via: 1.1 inner', 'Via: 1.1 tollgate']);
    expect(answer.match(/^x-request-id: .*$/gim)).toEqual([expect.stringMatching(/: [0-9a-f-]{36}$/)]);
    expect(answer).not.toMatch(/x-hop/i);
  });

  it('never the upstream’s secret, also by an upstream that shows what it was sent', async () => {
    const { ask } = await behind(
      (route) => ({ upstream: { ...route.upstream, secret: SECRET } }),
      (req, res) => res.writeHead(200, req.rawHeaders).end('{}'),
    );
    const answer = await ask(['X-Other: 1']);
    expect(answer).toMatch(/^X-Other: 1\r$/m);
    expect(answer).not.toContain(SECRET.value);
  });
});

describe('the path upstream', () => {
  it.each([
    // path, rewrite, base path, requested, sent
    ['/', null, '', '/a/b?c', '/a/b?c'],
    ['/', null, '/base', '/a', '/base/a'],
    ['/v1', null, '/base', '/v1/a', '/base/v1/a'],
    ['/v1', '/', '', '/v1/a', '/a'],
    ['/v1', '/', '', '/v1', '/'],
    ['/v1', '/', '', '/v1?a=1', '/?a=1'],
    ['/v1', '/', '/base', '/v1', '/base'],
    ['/v1', '/', '/base', '/v1?a=1', '/base?a=1'],
    ['/v1', '/api', '', '/v1/a?b=/v1', '/api/a?b=/v1'],
    ['/v1', '/api/', '', '/v1/a', '/api/a'],
    ['/v1', '/api', '/base', '/v1', '/base/api'],
    ['/', '/api', '', '/', '/api/'],
    ['/', '/api', '/base', '/a//b%2Fc', '/base/api/a//b%2Fc'],
  ])('route %s, rewritten to %s, below %j: %s is %s', (path, rewrite, basePath, requested, sent) => {
    expect(upstreamTarget(requested, { path, rewrite } as Route, { basePath })).toBe(sent);
  });

  it('is rewritten for the upstream, and cannot be left with "..": neither where a route begins nor where it leads', async () => {
    const { upstream, ask } = await behind(() => ({ rewrite: '/inner' }));
    await ask([], '/items?x=..');
    expect(upstream.requests.map(({ url }) => url)).toEqual(['/inner/items?x=..']);
    expect(await ask([], '/a/../../admin')).toMatch(/^HTTP\/1\.1 400 /);
    expect(upstream.requests).toHaveLength(1);
  });
});
