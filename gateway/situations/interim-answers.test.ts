import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { startRawUpstream, startScripted } from '../../test/raw-upstreams.ts';

afterEach(closeAll);

const FINAL = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal';
const wholeAnswer = (received: string) => received.endsWith('\r\n\r\nfinal');

async function behind(upstreamUrl: string) {
  const gateway = await startTestGateway({ upstreamUrl });
  const { plaintext: key } = await gateway.key();
  return { gateway, key, lines: `Host: h\r\nX-API-Key: ${key}\r\n` };
}

describe('Expect: 100-continue', () => {
  it('is met as soon as the request may go on, before the upstream has said anything', async () => {
    const upstream = await startRawUpstream(() => {});
    const { gateway, lines } = await behind(upstream.url);
    const head = `POST / HTTP/1.1\r\n${lines}Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n`;
    const socket = connect(gateway.port, '127.0.0.1', () => socket.write(head));
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk;
    });
    await vi.waitFor(() => expect(received).toBe('HTTP/1.1 100 Continue\r\n\r\n'));
    socket.write('hello');
    await vi.waitFor(() => expect(upstream.connections[0]?.received).toMatch(/\r\n\r\nhello$/));
    expect(upstream.connections[0]?.received).not.toMatch(/^expect:/im);
    upstream.connections[0]?.socket.write(FINAL);
    await vi.waitFor(() =>
      expect(received).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*final$/),
    );
    socket.destroy();
  });

  it('without a good key: the answer alone, nothing of the body is read, and the connection closes', async () => {
    const upstream = await startUpstream();
    const { gateway } = await behind(upstream.url);
    const answer = await sendRaw(
      gateway.port,
      'POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 401 [\s\S]*\r\nConnection: close\r\n/);
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(upstream.requests).toEqual([]);
  });

  it('of an HTTP/1.0 client cannot be meant: it gets its one answer', async () => {
    const upstream = await startUpstream((req, res) => req.resume().on('end', () => res.end('final')));
    const { gateway, lines } = await behind(upstream.url);
    const answer = await sendRaw(
      gateway.port,
      `POST / HTTP/1.0\r\n${lines}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });
});

describe('an interim answer of the upstream', () => {
  it('103 Early Hints is here before the final answer, with its Link headers and without what is not the upstream’s to say', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write(
        'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\nLink: </b.js>; rel=preload; as=script\r\n' +
          'RateLimit: "theirs";r=1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Request-ID: theirs\r\n\r\n',
      );
    });
    const { gateway, lines } = await behind(upstream.url);
    const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`GET / HTTP/1.1\r\n${lines}\r\n`));
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk;
    });
    await vi.waitFor(() => expect(received).toMatch(/\r\n\r\n$/));
    expect(received).toBe(
      'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\nLink: </b.js>; rel=preload; as=script\r\n\r\n',
    );
    upstream.connections[0]?.socket.write(FINAL);
    await vi.waitFor(() => expect(received).toMatch(/\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nfinal$/));
    socket.destroy();
  });

  it('102 Processing and several in a row pass', async () => {
    const upstream = await startScripted(
      `HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n${FINAL}`,
    );
    const { gateway, lines } = await behind(upstream.url);
    const answer = await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}\r\n`, wholeAnswer);
    expect(answer.match(/^HTTP\/1\.1 \d+/gm)).toEqual([
      'HTTP/1.1 102',
      'HTTP/1.1 103',
      'HTTP/1.1 102',
      'HTTP/1.1 200',
    ]);
  });

  it('never reaches an HTTP/1.0 client', async () => {
    const upstream = await startScripted(`HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n${FINAL}`);
    const { gateway, lines } = await behind(upstream.url);
    const answer = await sendRaw(gateway.port, `GET / HTTP/1.0\r\n${lines}\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nfinal$/);
    // Not the number alone: a request id may contain it.
    expect(answer).not.toMatch(/HTTP\/1\.1 103|Early Hints|Link/i);
  });

  it('to the second of two pipelined requests comes after the answer to the first', async () => {
    const upstream = await startRawUpstream(({ socket, received }) => {
      if (received.includes('GET /second'))
        socket.write(`HTTP/1.1 103 Early Hints\r\nLink: <second>\r\n\r\n${FINAL}`);
      else socket.write(FINAL.replaceAll('final', 'first'));
    });
    const { gateway, lines } = await behind(upstream.url);
    const answer = await sendRaw(
      gateway.port,
      `GET /first HTTP/1.1\r\n${lines}\r\nGET /second HTTP/1.1\r\n${lines}\r\n`,
      wholeAnswer,
    );
    expect(answer).toMatch(
      /^HTTP\/1\.1 200 [\s\S]*\r\n\r\nfirstHTTP\/1\.1 103 Early Hints\r\nLink: <second>\r\n\r\nHTTP\/1\.1 200 /,
    );
  });

  it.each([
    // undici, which speaks to upstreams, takes a 100 that nobody asked for as a broken server.
    ['100 that was not asked for', 'HTTP/1.1 100 Continue\r\n\r\n'],
    [
      '101 that was not asked for',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    ],
    ['101 without a word of what to', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
  ])('%s is a 502', async (_name, bytes) => {
    const upstream = await startScripted(bytes + FINAL);
    const { gateway, lines } = await behind(upstream.url);
    const answer = await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 502 [\s\S]*"code":"upstream_unreachable"/);
    await vi.waitFor(() => expect(upstream.connections.every(({ closed }) => closed)).toBe(true));
  });
});
