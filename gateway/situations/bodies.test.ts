import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { startRawUpstream, startScripted } from '../../test/raw-upstreams.ts';
import { routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

async function behind(upstreamUrl: string, options: Parameters<typeof startTestGateway>[0] = {}) {
  const gateway = await startTestGateway({ upstreamUrl, ...options });
  const { plaintext: key } = await gateway.key();
  const lines = `Host: h\r\nX-API-Key: ${key}\r\n`;
  const ask = (method: string, version = '1.1', more = '') =>
    sendRaw(gateway.port, `${method} / HTTP/${version}\r\n${lines}${more}\r\n`);
  return { gateway, key, lines, ask, once: (method = 'GET') => ask(method, '1.1', 'Connection: close\r\n') };
}

/** What a request with a body looks like upstream, after its own header lines. */
async function framingUpstream(request: (lines: string) => string) {
  const upstream = await startRawUpstream(() => {});
  const { gateway, lines } = await behind(upstream.url);
  const socket = connect(gateway.port, '127.0.0.1', () => socket.write(request(lines), 'latin1'));
  const sent = () => upstream.connections[0]?.received ?? '';
  await vi.waitFor(() => expect(sent()).toMatch(/end$|0\r\n\r\n$/));
  socket.destroy();
  const [head = '', ...body] = sent().split('\r\n\r\n');
  const framing = head
    .split('\r\n')
    .filter((line) => /^(content-length|transfer-encoding|te|trailer)/i.test(line));
  return { framing, body: body.join('\r\n\r\n') };
}

describe('a request body', () => {
  it('in chunks of any cut, with extensions, arrives in plain chunks', async () => {
    const { framing, body } = await framingUpstream(
      (lines) =>
        `POST / HTTP/1.1\r\n${lines}Transfer-Encoding: chunked\r\n\r\n3;a=b;c="d e"\r\nabc\r\n0008\r\ndefghend\r\n0;last\r\n\r\n`,
    );
    expect(framing).toEqual(['transfer-encoding: chunked']);
    expect(body.replaceAll(/(?:^|\r\n)[0-9a-f]+\r\n/g, '')).toBe('abcdefghend\r\n');
  });

  it('of known length keeps its length, whatever bytes it is of', async () => {
    const { framing, body } = await framingUpstream(
      (lines) => `PUT / HTTP/1.1\r\n${lines}Content-Length: 13\r\n\r\n\0GET / \xff\r\nend`,
    );
    expect(framing).toEqual(['content-length: 13']);
    expect(body).toHaveLength(13);
  });

  it('has trailers that end here: the client that speaks to upstreams sends none, and what they announced is not announced', async () => {
    const { framing, body } = await framingUpstream(
      (lines) =>
        `POST / HTTP/1.1\r\n${lines}Transfer-Encoding: chunked\r\nTrailer: X-Sum, X-Consumer-ID\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Consumer-ID: boss\r\n\r\n`,
    );
    expect(framing).toEqual(['transfer-encoding: chunked']);
    expect(body).toMatch(/0\r\n\r\n$/);
    expect(body).not.toMatch(/boss|x-sum/i);
  });

  it.each([
    ['POST', 'Content-Length: 0\r\n', ['content-length: 0']],
    ['POST', '', ['content-length: 0']],
    ['GET', '', []],
    ['DELETE', '', []],
  ])('%s without one (%j) goes on without one', async (method, more, expected) => {
    const upstream = await startScripted('HTTP/1.1 204 No Content\r\n\r\n');
    const { ask } = await behind(upstream.url);
    expect(await ask(method, '1.1', `${more}Connection: close\r\n`)).toMatch(/^HTTP\/1\.1 204 /);
    const [head = ''] = upstream.heads();
    expect(head.match(/^(content-length|transfer-encoding): .*$/gim) ?? []).toEqual(expected);
  });

  it('that the upstream answers without reading: the answer arrives, and the next request is not taken for the rest of it', async () => {
    const upstream = await startScripted('HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly');
    const { gateway, lines } = await behind(upstream.url);
    const received = await sendRaw(gateway.port, [
      `POST / HTTP/1.1\r\n${lines}Content-Length: 1000\r\n\r\nhalf`,
      `GET /smuggled HTTP/1.1\r\n${lines}\r\n`,
    ]);
    expect(received).toMatch(/^HTTP\/1\.1 413 [\s\S]*\r\n\r\nearly$/);
    expect(upstream.heads().join()).not.toContain('/smuggled');
    expect(upstream.connections.every(({ closed }) => closed)).toBe(true);
  });
});

describe('an answer without a body', () => {
  it.each([
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n', ['Content-Length: 1234']],
    ['HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', []],
    [
      'GET',
      'HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: "a"\r\n\r\n',
      ['Content-Length: 1234'],
    ],
    ['GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', []],
    ['GET', 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', []],
    ['GET', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ['Content-Length: 0']],
  ])('%s %j', async (method, bytes, framing) => {
    const { gateway, lines } = await behind((await startScripted(bytes)).url);
    const one = `${method} / HTTP/1.1\r\n${lines}\r\n`;
    const status = bytes.slice(9, 12);
    const both = (received: string) =>
      received.split(`HTTP/1.1 ${status} `).length === 3 && received.endsWith('\r\n\r\n');
    const answer = await sendRaw(gateway.port, one + one, both);
    expect(answer.match(/^(content-length|transfer-encoding): .*$/gim) ?? []).toEqual([
      ...framing,
      ...framing,
    ]);
    expect(answer.replaceAll(/HTTP\/1\.1 \d+ [\s\S]*?\r\n\r\n/g, '')).toBe('');
  });
});

describe('trailers of an answer', () => {
  const CHUNKED =
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length, X-Request-ID\r\n\r\n' +
    '3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\nX-Request-ID: theirs\r\nX-RateLimit-Limit: 9\r\n' +
    'Set-Cookie: a=b\r\nCache-Control: no-store\r\nX-Own-Secret: s\r\n\r\n';

  it('reach a client that gets it in chunks, announced, without those that bear on framing, identity or limits', async () => {
    const upstream = await startScripted(CHUNKED);
    const route = routeTo(upstream.url, 5000);
    const secret = { header: 'X-Own-Secret', value: 's' };
    const { once } = await behind(upstream.url, {
      routes: [{ ...route, upstream: { ...route.upstream, secret } }],
    });
    const answer = await once();
    expect(answer).toMatch(/^Trailer: X-Sum\r$/m);
    expect(answer).toMatch(/\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n$/);
  });

  it.each([
    ['an HTTP/1.0 client', 'GET', '1.0'],
    ['an answer to HEAD', 'HEAD', '1.1'],
  ])('are not announced to %s, and do not reach it', async (_name, method, version) => {
    const head = CHUNKED.slice(0, CHUNKED.indexOf('3\r\nabc'));
    const { ask } = await behind((await startScripted(method === 'HEAD' ? head : CHUNKED)).url);
    const answer = await ask(method, version, 'Connection: close\r\n');
    expect(answer).toMatch(method === 'HEAD' ? /\r\n\r\n$/ : /\r\n\r\nabc$/);
    expect(answer).not.toMatch(/trailer|x-sum/i);
  });

  it('announced by an answer of known length are not announced: they cannot come', async () => {
    const { once } = await behind(
      (await startScripted('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTrailer: X-Sum\r\n\r\nok')).url,
    );
    const answer = await once();
    expect(answer).toMatch(/\r\n\r\nok$/);
    expect(answer).not.toMatch(/trailer/i);
  });
});

describe('HTTP/1.0', () => {
  const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n';

  it('a client gets an answer of unknown length plain, and then the connection closes, even if it wanted to keep it', async () => {
    const { ask } = await behind((await startScripted(CHUNKED)).url);
    const answer = await ask('GET', '1.0', 'Connection: keep-alive\r\n');
    expect(answer).toMatch(/\r\n\r\nabcde$/);
    expect(answer).toMatch(/^Connection: close\r$/m);
    expect(answer).not.toMatch(/transfer-encoding/i);
  });

  it('a client keeps its connection after an answer of known length if it asks to, and not otherwise', async () => {
    const { gateway, lines, ask } = await behind(
      (await startScripted('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal')).url,
    );
    expect(await ask('GET', '1.0')).toMatch(/^Connection: close\r$/m);
    const one = `GET / HTTP/1.0\r\n${lines}Connection: keep-alive\r\n\r\n`;
    const answer = await sendRaw(gateway.port, one + one, (received) => received.split('final').length === 3);
    expect(answer.match(/^Connection: .*$/gm)).toEqual(['Connection: keep-alive', 'Connection: keep-alive']);
  });

  it('a client is announced as such in Via', async () => {
    const upstream = await startUpstream();
    const { ask } = await behind(upstream.url);
    await ask('GET', '1.0', 'Via: 1.0 fred\r\n');
    expect(upstream.requests[0]?.headers.via).toBe('1.0 fred, 1.0 tollgate');
  });

  it.each([
    ['of known length', 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde'],
    ['that ends with its connection', 'HTTP/1.0 200 OK\r\n\r\nabcde'],
    ['of HTTP/1.1 that ends with its connection', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde'],
  ])('an upstream’s answer %s arrives whole, and no one else uses its connection', async (_name, bytes) => {
    const upstream = await startScripted(bytes, { close: true });
    const { once, gateway, key } = await behind(upstream.url);
    expect(await once()).toMatch(/\r\n\r\n(abcde|5\r\nabcde\r\n0\r\n\r\n)$/);
    expect(await (await gateway.get('/', key)).text()).toBe('abcde');
    expect(upstream.connections).toHaveLength(2);
  });
});
