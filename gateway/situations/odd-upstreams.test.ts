import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, sendRaw, startTestGateway } from '../../test/gateways.ts';
import { type RawUpstream, startRawUpstream, startScripted } from '../../test/raw-upstreams.ts';

afterEach(closeAll);

async function behind(upstream: RawUpstream) {
  const gateway = await startTestGateway({ upstreamUrl: upstream.url });
  const { plaintext: key } = await gateway.key();
  const lines = `Host: h\r\nX-API-Key: ${key}\r\n`;
  const ask = (path = '/', version = '1.1') =>
    sendRaw(gateway.port, `GET ${path} HTTP/${version}\r\n${lines}Connection: close\r\n\r\n`);
  return { gateway, key, lines, ask };
}

async function inFlight(internalUrl: string): Promise<number> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text();
  return Number(/^tollgate_gateway_requests_in_flight (\d+)$/m.exec(text)?.[1]);
}

const GOOD = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood';
const SECOND = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled';

describe('an answer that is not HTTP is a 502, and the connection it came on is used for nobody else', () => {
  it.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['a status line without a status', 'HTTP/1.1\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
    ['a status below all classes', 'HTTP/1.1 099 Hm\r\nContent-Length: 0\r\n\r\n'],
    ['an unknown version', 'HTTP/7.3 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['a header line without a colon', 'HTTP/1.1 200 OK\r\nA b c\r\n\r\n'],
    ['a blank before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok'],
    ['an empty header name', 'HTTP/1.1 200 OK\r\n: x\r\n\r\n'],
    ['NUL in a header', 'HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n'],
    ['a control character in a header', 'HTTP/1.1 200 OK\r\nA: b\x01c\r\nContent-Length: 0\r\n\r\n'],
    ['a bare CR in a header', 'HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\nContent-Length: 0\r\n\r\n'],
    ['bare LF line ends', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nokay'],
    ['the same length twice', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok'],
    ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok'],
    ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok'],
    ['a length with a sign', 'HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok'],
    ['a length beyond 64 bits', 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok'],
    [
      'a length and chunks',
      `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    [
      'chunks and a length',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
    ],
    ['more headers than fit', `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(20_000)}\r\n`],
  ])('%s', async (_name, bytes) => {
    const upstream = await startRawUpstream(({ socket, received }) => {
      socket.write(received.includes('/good') ? GOOD : bytes, 'latin1');
    });
    const { ask, gateway } = await behind(upstream);
    const answer = await ask();
    expect(answer).toMatch(/^HTTP\/1\.1 502 [\s\S]*"code":"upstream_unreachable"/);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    await vi.waitFor(() => expect(upstream.connections.every(({ closed }) => closed)).toBe(true));
    expect(await ask('/good')).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ngood$/);
    expect(await inFlight(gateway.internalUrl)).toBe(0);
  });
});

describe('more than an answer', () => {
  it.each([
    ['after its length, at once', `${GOOD}${SECOND}`, ''],
    ['after its length, a moment later', GOOD, SECOND],
    [
      'after its last chunk',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n${SECOND}`,
      '',
    ],
    ['after an answer that has no body', `HTTP/1.1 204 No Content\r\n\r\n${SECOND}`, ''],
    [
      'after an answer that may have no body',
      `HTTP/1.1 304 Not Modified\r\nContent-Length: 80\r\n\r\n${SECOND}`,
      '',
    ],
    ['that is no answer', `${GOOD}surplus`, ''],
  ])('%s, never reaches anybody', async (_name, bytes, later) => {
    const upstream = await startRawUpstream(({ socket }, nth) => {
      socket.write(bytes);
      // The next request on this connection, if there is one, would be answered with what is left over.
      if (later !== '' && nth === 0) setImmediate(() => socket.write(later));
    });
    const { gateway, key, lines } = await behind(upstream);
    const first = await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`);
    expect(first).not.toContain('smuggled');
    // Whatever the upstream said between the two requests ended the connection.
    await vi.waitFor(() => expect(upstream.connections.every(({ closed }) => closed)).toBe(true));
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const answer = await gateway.get('/', key);
        return [answer.status, await answer.text()];
      }),
    );
    expect(JSON.stringify(answers)).not.toMatch(/smuggled|surplus/);
  });

  it('to HEAD, never reaches anybody', async () => {
    const upstream = await startScripted(GOOD);
    const { gateway, lines, ask } = await behind(upstream);
    const answer = await sendRaw(gateway.port, `HEAD / HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*Content-Length: 4[\s\S]*\r\n\r\n$/);
    expect(await ask()).toMatch(/\r\n\r\ngood$/);
    expect(upstream.connections).toHaveLength(2);
  });
});

describe('an answer that is cut off: the client can tell', () => {
  const CUT = [
    ['short of its length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'],
    ['between two chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
    ['within a chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf'],
    [
      'before its trailers end',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nA: b\r\n',
    ],
    ['by a chunk that is none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n'],
  ] as const;
  const ENDINGS = ['end', 'reset'] as const;

  it.each(CUT.flatMap(([name, bytes]) => ENDINGS.map((ending) => [name, ending, bytes] as const)))(
    '%s (%s)',
    async (_name, ending, bytes) => {
      const upstream = await startRawUpstream(({ socket }) => {
        socket.write(bytes);
      });
      const { gateway, lines } = await behind(upstream);
      const received = await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}\r\n`, (text) => {
        // Only then, so that the half is here before the reset, which may overtake it.
        if (text.includes('half')) {
          const socket = upstream.connections[0]?.socket;
          if (ending === 'end') socket?.end();
          else socket?.resetAndDestroy();
        }
        return false;
      });
      expect(received).toMatch(/^HTTP\/1\.1 200 /);
      // Its end is missing, and the connection is closed.
      if (received.includes('Content-Length: 100')) expect(received).toMatch(/\r\n\r\nhalf$/);
      else expect(received).toMatch(/\r\n\r\n4\r\nhalf\r\n$/);
    },
  );

  it('also a client of HTTP/1.0, for which the end of the connection is the end of the answer: it is reset', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n');
    });
    const { gateway, lines } = await behind(upstream);
    const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`GET / HTTP/1.0\r\n${lines}\r\n`));
    let received = '';
    const ended = new Promise((resolve) => {
      socket.on('error', (error) => resolve((error as NodeJS.ErrnoException).code));
      socket.on('close', () => resolve('closed'));
    });
    socket.on('data', (chunk) => {
      received += chunk;
      if (received.includes('half')) upstream.connections[0]?.socket.end();
    });
    expect(await ended).toBe('ECONNRESET');
  });

  it('of unknown length that a reset ends is not taken for a whole one', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf');
    });
    const { gateway, lines } = await behind(upstream);
    const received = await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}\r\n`, (text) => {
      if (text.includes('half')) upstream.connections[0]?.socket.resetAndDestroy();
      return text.endsWith('0\r\n\r\n');
    });
    expect(received).toMatch(/half\r\n$/);
  });
});

describe('an upstream that answers and then breaks its connection', () => {
  it.each(['end', 'resetAndDestroy'] as const)('the answer is whole (%s)', async (how) => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write(GOOD, () => socket[how]());
    });
    const { gateway, key } = await behind(upstream);
    for (let i = 0; i < 20; i++) {
      const answer = await gateway.get('/', key);
      expect([answer.status, await answer.text()]).toEqual([200, 'good']);
    }
  });
});
