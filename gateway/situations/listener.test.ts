import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';

afterEach(closeAll);

const problem = (status: number, code: string) =>
  new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*application/problem\\+json[\\s\\S]*"code":"${code}"`);

describe('what is no request', () => {
  it.each([
    ['nonsense', 'GARBAGE\r\n\r\n', problem(400, 'invalid_request')],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      problem(400, 'invalid_request'),
    ],
    [
      'a length beside chunks',
      'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      problem(400, 'invalid_request'),
    ],
    ['no host', 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 400 /],
    [
      'an absolute target',
      'GET http://other/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n',
      problem(400, 'invalid_request'),
    ],
    [
      'an asterisk',
      'OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n',
      problem(400, 'invalid_request'),
    ],
    ['CONNECT', 'CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n', problem(405, 'method_not_allowed')],
    [
      'a WebSocket with POST',
      'POST /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n',
      problem(501, 'upgrade_not_supported'),
    ],
    [
      'headers without end',
      `GET / HTTP/1.1\r\nHost: h\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
      problem(431, 'headers_too_large'),
    ],
  ])('%s gets a clear answer', async (_name, bytes, expected) => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    expect(await sendRaw(gateway.port, bytes)).toMatch(expected);
    expect(upstream.requests).toEqual([]);
    expect((await gateway.get('/health')).status).toBe(200);
  });

  it('an offer to upgrade to HTTP/2 is ignored, as it may be', async () => {
    const { gateway, key, upstream } = await withKey();
    const answer = await sendRaw(
      gateway.port,
      `GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 200 /);
    expect(Object.keys(upstream.requests[0]?.headers ?? {})).not.toEqual(
      expect.arrayContaining(['upgrade', 'http2-settings']),
    );
  });

  it('rubbish after a request does not spoil its answer, and gets its own after it', async () => {
    let finish = () => {};
    const upstream = await startUpstream((_req, res) => {
      finish = () => res.end('whole');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const answer = sendRaw(gateway.port, [
      `GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\n\r\n`,
      'RUBBISH\r\n\r\n',
      'MORE RUBBISH\r\n\r\n',
    ]);
    await vi.waitFor(() => expect(upstream.requests).toHaveLength(1));
    finish();
    expect(await answer).toMatch(/^HTTP\/1.1 200 [\s\S]*whole[\s\S]*HTTP\/1.1 400 [\s\S]*invalid_request/);
  });

  it('what comes after a request that was the last is nobody’s request', async () => {
    const { gateway, key, upstream } = await withKey();
    const answer = await sendRaw(
      gateway.port,
      `GET /one HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nConnection: close\r\n\r\nGET /two HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n\r\n`,
    );
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200']);
    expect(upstream.requests.map(({ url }) => url)).toEqual(['/one']);
  });

  it('a client that sends its headers byte by byte is let go', async () => {
    const gateway = await startTestGateway({
      listenerLimits: { ...LISTENER_LIMITS, headersMs: 300, checkMs: 50 },
    });
    const socket = connect(gateway.port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\n');
    const dripping = setInterval(() => socket.write('X: y\r\n'), 50);
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('close', resolve));
    clearInterval(dripping);
    expect(answer).toMatch(problem(408, 'request_timeout'));
  });
});

describe('the internal listener', () => {
  it('has the metrics, which the public one has not, and no key in them', async () => {
    const { gateway, key, id } = await withKey();
    await gateway.get('/', key);
    await gateway.get('/', key);
    await gateway.get('/', 'wrong');
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    expect(text).toContain('tollgate_gateway_requests_total{outcome="forwarded",status="2xx"} 2');
    expect(text).toContain('tollgate_gateway_refusals_total{code="invalid_key"} 1');
    expect(text).toContain('tollgate_gateway_upstream_seconds_count 2');
    expect(text).toContain('tollgate_gateway_key_cache_hits_total 1');
    expect(text).not.toContain(id);
    expect(text).not.toContain(key);
    expect((await fetch(`${gateway.internalUrl}/health`)).status).toBe(200);
    expect((await fetch(`${gateway.internalUrl}/whoami`)).status).toBe(404);
    expect(gateway.internalPort).not.toBe(gateway.port);
    expect((await gateway.get('/metrics')).status, 'the upstream’s, with a key').toBe(401);
  });

  it('counts for each gateway on its own', async () => {
    const one = await withKey();
    const other = await withKey();
    await one.gateway.get('/', one.key);
    const text = await (await fetch(`${other.gateway.internalUrl}/metrics`)).text();
    expect(text).not.toContain('outcome="forwarded"');
  });
});

async function withKey() {
  const upstream = await startUpstream();
  const gateway = await startTestGateway({ upstreamUrl: upstream.url });
  const { plaintext: key, id } = await gateway.key();
  return { upstream, gateway, key, id };
}
