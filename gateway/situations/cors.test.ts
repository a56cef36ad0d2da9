import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { type CorsPolicy, POLICY_DEFAULTS, UPSTREAM_DEFAULTS } from '../routes/route-spec.ts';

afterEach(closeAll);

const APP = 'https://app.example.com';
const CORS: CorsPolicy = {
  origins: [APP, 'http://localhost:5173'],
  methods: ['GET', 'POST'],
  headers: ['X-Mine'],
  exposedHeaders: ['X-Total'],
  credentials: false,
  maxAgeSeconds: 600,
};

async function start(cors: CorsPolicy | null, env: Record<string, string> = {}) {
  const upstream = await startUpstream((_req, res) => {
    res.setHeader('Access-Control-Allow-Origin', 'https://upstream.example');
    res.setHeader('Access-Control-Allow-Credentials', 'true');
    res.setHeader('Vary', 'Accept-Encoding');
    res.end('{}');
  });
  const gateway = await startTestGateway({
    env,
    routes: [
      {
        name: 'v1',
        hosts: [],
        path: '/',
        rewrite: null,
        upstream: { ...UPSTREAM_DEFAULTS, urls: [upstream.url] },
        policy: { ...POLICY_DEFAULTS, cors, methods: ['GET', 'POST', 'OPTIONS'] },
      },
    ],
  });
  return { gateway, upstream };
}

const preflight = (origin: string) => ({
  method: 'OPTIONS',
  headers: {
    Origin: origin,
    'Access-Control-Request-Method': 'POST',
    'Access-Control-Request-Headers': 'x-api-key',
  },
});

/** What an answer says to browsers. */
function said(answer: Response): Record<string, string> {
  return Object.fromEntries([...answer.headers].filter(([name]) => /^(?:access-control-|vary$)/.test(name)));
}

const EXPOSED =
  'RateLimit, RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, X-Request-ID, X-Total';

describe.each(['off', 'on'])('CORS, with the fast lane %s', (FAST_LANE) => {
  it('a preflight is answered here: without a key, without the upstream', async () => {
    const { gateway, upstream } = await start(CORS, { FAST_LANE });
    const answer = await gateway.get('/items', undefined, preflight(APP));
    expect(answer.status).toBe(204);
    expect(said(answer)).toEqual({
      'access-control-allow-origin': APP,
      'access-control-allow-methods': 'GET, POST',
      'access-control-allow-headers': 'Authorization, X-API-Key, Content-Type, X-Mine',
      'access-control-expose-headers': EXPOSED,
      'access-control-max-age': '600',
      vary: 'Origin',
    });
    expect(upstream.requests).toEqual([]);
    const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    expect(metrics).toMatch(/requests_total\{outcome="answered",status="2xx"\} 1/);
    expect(metrics).toMatch(/requests_in_flight 0/);
  });

  it('an origin that is not named learns nothing', async () => {
    const { gateway } = await start(CORS, { FAST_LANE });
    const { plaintext } = await gateway.key();
    for (const origin of [
      'https://evil.example',
      'null',
      'https://app.example.com.evil.example',
      'HTTPS://APP.EXAMPLE.COM',
    ]) {
      expect(said(await gateway.get('/', undefined, preflight(origin)))).toEqual({ vary: 'Origin' });
      const answer = await gateway.get('/', plaintext, { headers: { Origin: origin } });
      expect(said(answer)).toEqual({ vary: 'Accept-Encoding, Origin' });
    }
  });

  it('what the upstream says of it is replaced; the rest stays', async () => {
    const { gateway } = await start(CORS, { FAST_LANE });
    const { plaintext } = await gateway.key();
    const answer = await gateway.get('/', plaintext, { headers: { Origin: APP } });
    expect(answer.status).toBe(200);
    expect(said(answer)).toEqual({
      'access-control-allow-origin': APP,
      'access-control-expose-headers': EXPOSED,
      vary: 'Accept-Encoding, Origin',
    });
  });

  it('a script can read why it was refused, and when to come again', async () => {
    const { gateway, upstream } = await start(CORS, { FAST_LANE });
    const { plaintext } = await gateway.key('small');
    for (let i = 0; i < 5; i++) await gateway.get('/', plaintext);
    const limited = await gateway.get('/', plaintext, { headers: { Origin: APP } });
    const missing = await gateway.get('/', undefined, { headers: { Origin: APP } });
    const wrong = await gateway.get('/', plaintext, { method: 'PATCH', headers: { Origin: APP } });
    expect([limited.status, missing.status, wrong.status]).toEqual([429, 401, 405]);
    for (const answer of [limited, missing, wrong]) {
      expect(said(answer)).toMatchObject({ 'access-control-allow-origin': APP, vary: 'Origin' });
    }
    expect(said(limited)['access-control-expose-headers']).toContain('Retry-After');
    expect(upstream.requests).toHaveLength(5);
  });

  it('any origin, with credentials for those that are named', async () => {
    const any = await start({ ...CORS, origins: '*' }, { FAST_LANE });
    const { plaintext } = await any.gateway.key();
    expect(said(await any.gateway.get('/', plaintext, { headers: { Origin: 'https://x.example' } }))).toEqual(
      {
        'access-control-allow-origin': '*',
        'access-control-expose-headers': EXPOSED,
        vary: 'Accept-Encoding',
      },
    );
    const named = await start({ ...CORS, credentials: true }, { FAST_LANE });
    expect(said(await named.gateway.get('/', undefined, preflight(APP)))).toMatchObject({
      'access-control-allow-origin': APP,
      'access-control-allow-credentials': 'true',
    });
  });

  it('OPTIONS that asks for no leave is a request as any other', async () => {
    const { gateway, upstream } = await start(CORS, { FAST_LANE });
    expect((await gateway.get('/', undefined, { method: 'OPTIONS', headers: { Origin: APP } })).status).toBe(
      401,
    );
    expect(upstream.requests).toEqual([]);
  });

  it('our own endpoints are reached as the route that covers them', async () => {
    const { gateway } = await start(CORS, { FAST_LANE });
    const { plaintext } = await gateway.key();
    expect((await gateway.get('/whoami', undefined, preflight(APP))).status).toBe(204);
    for (const key of [plaintext, undefined]) {
      const answer = await gateway.get('/whoami', key, { headers: { Origin: APP } });
      expect(answer.status).toBe(key === undefined ? 401 : 200);
      expect(said(answer)).toMatchObject({ 'access-control-allow-origin': APP, vary: 'Origin' });
    }
  });

  it('without it, nothing is said or left out', async () => {
    const { gateway, upstream } = await start(null, { FAST_LANE });
    const { plaintext } = await gateway.key();
    expect(said(await gateway.get('/', plaintext, preflight(APP)))).toEqual({
      'access-control-allow-origin': 'https://upstream.example',
      'access-control-allow-credentials': 'true',
      vary: 'Accept-Encoding',
    });
    expect(upstream.requests).toHaveLength(1);
    expect(said(await gateway.get('/whoami', plaintext, { headers: { Origin: APP } }))).toEqual({});
  });
});
