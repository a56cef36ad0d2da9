import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Server, serverUrl } from './server.ts';

const opened: { close(): void; closeAllConnections(): void }[] = [];

afterEach(() => {
  for (const server of opened.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

async function answering(listener: RequestListener): Promise<Server> {
  const server = createServer(listener);
  opened.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return new Server(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 500);
}

it.each([
  ['https://buy.example.com/', 'https://buy.example.com'],
  ['https://buy.example.com/shop/', 'https://buy.example.com/shop'],
  ['http://127.0.0.1:8011', 'http://127.0.0.1:8011'],
  ['http://localhost:8011', 'http://localhost:8011'],
  ['http://[::1]:8011', 'http://[::1]:8011'],
])('%s is a server', (given, url) => {
  expect(serverUrl(given)).toBe(url);
});

it.each([
  'http://buy.example.com',
  'http://127.0.0.1.example.com',
  'http://localhost.example.com',
  'ftp://127.0.0.1',
  'https://user:pass@buy.example.com',
  'https://buy.example.com/?x=1',
  'buy.example.com',
  '',
])('"%s" is none', (given) => {
  expect(() => serverUrl(given)).toThrow(expect.objectContaining({ code: 'insecure_server' }));
});

it('a problem is an error with its code, remedy and what else it says', async () => {
  const server = await answering((_req, res) => {
    res.writeHead(429, { 'Content-Type': 'application/problem+json', 'Retry-After': '7' });
    res.end(
      JSON.stringify({
        type: 't',
        title: 'T',
        status: 429,
        code: 'too_many_requests',
        detail: 'Too many.',
        request_id: 'r',
      }),
    );
  });
  await expect(server.ask('GET', '/')).rejects.toMatchObject({
    code: 'too_many_requests',
    message: 'Too many.',
    status: 429,
    isServerTrouble: true,
    retryAfterSeconds: 7,
    extensions: { request_id: 'r' },
  });
});

it.each<[string, RequestListener]>([
  [
    'a page with 401',
    (_req, res) => res.writeHead(401, { 'Content-Type': 'text/html' }).end('<h1>Sign in</h1>'),
  ],
  [
    'JSON with 402 that is no problem',
    (_req, res) => res.writeHead(402, { 'Content-Type': 'application/json' }).end('{}'),
  ],
  [
    'a problem without a code',
    (_req, res) => res.writeHead(402, { 'Content-Type': 'application/problem+json' }).end('{}'),
  ],
  ['JSON that is none', (_req, res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end('{')],
  ['a list', (_req, res) => res.writeHead(200, { 'Content-Type': 'application/json' }).end('[]')],
  [
    'a flood',
    (_req, res) =>
      res.writeHead(200, { 'Content-Type': 'application/json' }).end(`"${'x'.repeat(1_000_000)}"`),
  ],
])('%s is not an answer of Tollgate, and says nothing on who is entitled', async (_name, listener) => {
  const server = await answering(listener);
  await expect(server.ask('GET', '/')).rejects.toMatchObject({
    code: 'unexpected_answer',
    isServerTrouble: true,
  });
});

it('a redirect is not followed: it would take the key along', async () => {
  const seen: string[] = [];
  const server = await answering((req, res) => {
    seen.push(`${req.url}`);
    res.writeHead(307, { Location: '/elsewhere' }).end();
  });
  await expect(server.ask('POST', '/a', { bearer: 'secret', body: {} })).rejects.toMatchObject({
    isServerTrouble: true,
  });
  expect(seen).toEqual(['/a']);
});

it('an answer that does not come, or not to its end, is waited for no longer than said', async () => {
  const never = await answering(() => {});
  await expect(never.ask('GET', '/')).rejects.toMatchObject({ code: 'server_unreachable' });
  const half = await answering((_req, res) =>
    res.writeHead(200, { 'Content-Type': 'application/json' }).write('{"a":'),
  );
  await expect(half.ask('GET', '/')).rejects.toMatchObject({
    code: 'server_unreachable',
    isServerTrouble: true,
  });
});
