import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { afterEach, describe, expect, it } from 'vitest';
import { mintKey } from '../../shared/keys.ts';
import { boughtKey, closeAll, closeLater, startTestGateway, type TestGateway } from '../../test/gateways.ts';
import { type RequireKeyOptions, requireKey } from './require-key.ts';
import { verifyKey } from './verify-key.ts';

afterEach(closeAll);

/** A server of a seller's that shows what its handler gets. */
async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function expressServer(options: RequireKeyOptions): Promise<string> {
  const app = express();
  app.use((req, _res, next) => {
    // Other middleware may have looked before.
    void req.headers;
    next();
  });
  app.use('/v1', requireKey(options), (req, res) => {
    res.json({ headers: req.headers, raw: req.rawHeaders, distinct: req.headersDistinct, url: req.url });
  });
  return listen(app);
}

async function fetchServer(
  gateway: string,
  timeoutMs = 5000,
): Promise<(init: RequestInit, path?: string) => Promise<Response>> {
  return async (init, path = '/v1/x') => {
    const request = new Request(`https://api.example.com${path}`, init);
    const verdict = await verifyKey(request, { gateway, address: '203.0.113.9', timeoutMs });
    if (!verdict.allowed) return verdict.response;
    const headers = Object.fromEntries(verdict.request.headers);
    return Response.json(
      { headers, consumer: verdict.consumer, body: await verdict.request.text() },
      { headers: verdict.headers },
    );
  };
}

/** What an answer says, but for what differs each time. */
async function said(response: Response) {
  const headers = Object.fromEntries(response.headers);
  for (const name of [
    'x-request-id',
    'date',
    'connection',
    'keep-alive',
    'content-length',
    'via',
    'x-powered-by',
    'etag',
  ]) {
    delete headers[name];
  }
  const body = response.headers.get('content-type')?.includes('problem')
    ? { ...((await response.json()) as object), request_id: 0 }
    : null;
  if (body === null) delete headers['content-type'];
  return { status: response.status, headers, body };
}

describe('a server of the seller’s decides as the gateway does', () => {
  it.each<[string, (gateway: TestGateway) => Promise<Record<string, string>>]>([
    ['no key', async () => ({})],
    ['a key that does not exist', async () => ({ 'X-API-Key': mintKey('tg', 'test').plaintext })],
    ['something that is no key', async () => ({ Authorization: 'Bearer nonsense' })],
    ['a live key', async () => ({ 'X-API-Key': mintKey('tg', 'live').plaintext })],
    ['a good key', async (gateway) => ({ 'X-API-Key': (await gateway.key('large')).plaintext })],
    [
      'a good key as a bearer token',
      async (gateway) => ({ Authorization: `bearer ${(await gateway.key('large')).plaintext}` }),
    ],
    [
      'two keys',
      async (gateway) => ({
        'X-API-Key': (await gateway.key()).plaintext,
        Authorization: `Bearer ${(await gateway.key()).plaintext}`,
      }),
    ],
    [
      'a key that is used up',
      async (gateway) => {
        const { plaintext } = await gateway.key('small');
        for (let i = 0; i < 5; i++) await gateway.get('/', plaintext);
        return { 'X-API-Key': plaintext };
      },
    ],
    [
      'a subscription that has ended',
      async (gateway) => {
        const key = await boughtKey(gateway);
        await key.sync({ status: 'canceled', fetchedAt: 2000 });
        return { 'X-API-Key': key.plaintext };
      },
    ],
  ])('%s', async (_name, headersFor) => {
    const gateway = await startTestGateway();
    const headers = await headersFor(gateway);
    const own = await expressServer({ gateway: gateway.internalUrl });
    const byFetch = await fetchServer(gateway.internalUrl);
    const behind = await said(await fetch(`${gateway.url}/v1/x`, { headers }));
    const answers = [
      await said(await fetch(`${own}/v1/x`, { headers })),
      await said(await byFetch({ headers })),
    ];
    for (const answer of answers) expect(withoutCounts(answer)).toEqual(withoutCounts(behind));
    if (behind.status === 200) {
      const first = remaining(behind);
      expect(answers.map(remaining), 'it is the same count').toEqual([first - 1, first - 2]);
    }
  });
});

function remaining({ headers }: { headers: Record<string, string> }): number {
  return Number(headers['x-ratelimit-remaining']);
}

function withoutCounts<T extends { headers: Record<string, string> }>(answer: T): T {
  const {
    ratelimit: _,
    'x-ratelimit-remaining': _left,
    'x-ratelimit-reset': _reset,
    ...headers
  } = answer.headers;
  return { ...answer, headers };
}

it('the handler learns who sent it from the gateway only, and never sees the key', async () => {
  const gateway = await startTestGateway();
  const key = await boughtKey(gateway, { planId: 'small' });
  const headers = {
    'X-API-Key': key.plaintext,
    'X-Consumer-ID': 'cust_forged',
    X_Consumer_Plan: 'forged',
    'X-Consumer-Admin': 'forged',
    'X-Credential-Identifier': 'forged',
    'X-Request-ID': 'forged',
    'X-Copy': `also ${key.plaintext}`,
    'X-Kept': 'kept',
  };
  const own = await expressServer({ gateway: gateway.internalUrl });
  const answer = await (await fetch(`${own}/v1/x?y=1`, { headers })).text();
  expect(answer).not.toContain(key.plaintext);
  expect(answer).not.toContain('forged');
  const { headers: got, raw, distinct, url } = JSON.parse(answer);
  expect(url).toBe('/x?y=1');
  expect(got).toMatchObject({
    'x-consumer-id': expect.stringMatching(/^cust_/),
    'x-consumer-plan': 'small',
    'x-credential-identifier': key.id,
    'x-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
    'x-kept': 'kept',
  });
  expect(distinct['x-consumer-plan']).toEqual(['small']);
  expect(raw.filter((each: string) => /^x-consumer/i.test(each))).toEqual([
    'x-consumer-id',
    'x-consumer-plan',
  ]);

  const byFetch = await fetchServer(gateway.internalUrl);
  const text = await (await byFetch({ method: 'POST', body: 'the body', headers })).text();
  expect(text).not.toContain(key.plaintext);
  expect(text).not.toContain('forged');
  expect(JSON.parse(text)).toMatchObject({
    consumer: { plan: 'small', keyId: key.id },
    headers: { 'x-consumer-plan': 'small', 'x-kept': 'kept' },
    body: 'the body',
  });
});

it("another scheme's Authorization is the handler's own business", async () => {
  const gateway = await startTestGateway();
  const { plaintext } = await gateway.key();
  const own = await expressServer({ gateway: gateway.internalUrl });
  const headers = { 'X-API-Key': plaintext, Authorization: 'Basic dTpw' };
  expect(await (await fetch(`${own}/v1`, { headers })).json()).toMatchObject({
    headers: { authorization: 'Basic dTpw' },
  });
});

describe('without an answer of the gateway it is 503, never the customer’s fault', () => {
  it.each<[string, RequestListener | null]>([
    ['it does not run', null],
    ['it hangs', () => {}],
    ['it is cut off', (req) => req.socket.destroy()],
    ['something else answers 200', (_req, res) => res.end('hello')],
    ['something else answers 401', (_req, res) => res.writeHead(401).end()],
    ['something else redirects', (_req, res) => res.writeHead(302, { Location: '/x' }).end()],
    [
      'its answer does not end',
      (_req, res) => res.writeHead(401, { 'Content-Type': 'application/problem+json' }).write('{'),
    ],
  ])('%s', async (_name, listener) => {
    const gateway = listener === null ? 'http://127.0.0.1:9' : await listen(listener);
    const errors: Error[] = [];
    const own = await expressServer({ gateway, timeoutMs: 200, onNoAnswer: (error) => errors.push(error) });
    const byFetch = await fetchServer(gateway, 200);
    const headers = { 'X-API-Key': mintKey('tg', 'test').plaintext };
    for (const response of [await fetch(`${own}/v1/x`, { headers }), await byFetch({ headers })]) {
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBe('1');
      expect(response.headers.get('content-type')).toBe('application/problem+json');
      expect(await response.json()).toMatchObject({ code: 'keystore_unavailable', status: 503 });
    }
    expect(errors).toHaveLength(1);
  });
});

it('a gateway that is no address is told at once', () => {
  for (const gateway of ['127.0.0.1:8013', 'http://127.0.0.1:8013/verify', '']) {
    expect(() => requireKey({ gateway })).toThrow(TypeError);
  }
});
