import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { type RawUpstream, startRawUpstream } from '../../test/raw-upstreams.ts';
import { type RouteSpec, routeTo, type UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

const GOOD = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood';

async function behind(urls: string[], spec: Partial<UpstreamSpec> = {}) {
  const route = routeTo(urls[0] as string, 5000);
  const routes: RouteSpec[] = [{ ...route, upstream: { ...route.upstream, urls, ...spec } }];
  const gateway = await startTestGateway({ upstreamUrl: urls[0] as string, routes });
  const { plaintext: key } = await gateway.key();
  const ask = (method: string, body = '') =>
    sendRaw(
      gateway.port,
      `${method} / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nConnection: close\r\n${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`,
    );
  return { gateway, ask };
}

/** A port that refuses connections: one that is given to nobody, whatever else runs meanwhile. */
const CLOSED = 'http://127.0.0.1:1';

/**
 * An upstream that answers the first request on each connection and breaks the connection at the second, as one does that
 * was about to close it; `breaks` times in all.
 */
function breaking(breaks: number, how: (socket: Socket) => void = (socket) => socket.destroy()) {
  let left = breaks;
  return startRawUpstream(({ socket }, nth) => {
    if (nth > 0 && left > 0) {
      left--;
      how(socket);
    } else socket.write(GOOD);
  });
}

/** Leaves a connection to the upstream that is kept for the next request. */
async function warmUp(ask: (method: string) => Promise<string>, upstream: RawUpstream): Promise<void> {
  expect(await ask('GET')).toMatch(/\r\n\r\ngood$/);
  expect(upstream.connections).toHaveLength(1);
}

describe('a kept connection that breaks before a byte of the answer', () => {
  it.each(['GET', 'OPTIONS', 'PUT', 'DELETE', 'TRACE'])(
    '%s without a body is sent once more, on another connection',
    async (method) => {
      const upstream = await breaking(1);
      const { ask } = await behind([upstream.url]);
      await warmUp(ask, upstream);
      expect(await ask(method)).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ngood$/);
      expect(upstream.heads().filter((head) => head.startsWith(`${method} `))).toHaveLength(
        method === 'GET' ? 3 : 2,
      );
      const ids = upstream.heads().map((head) => /^x-request-id: (.*)$/im.exec(head)?.[1]);
      expect(ids.at(-1)).toBe(ids.at(-2));
    },
  );

  it.each(['POST', 'PATCH', 'LOCK'])('%s is not sent again: it may have been done', async (method) => {
    const upstream = await breaking(1);
    const { ask } = await behind([upstream.url]);
    await warmUp(ask, upstream);
    expect(await ask(method)).toMatch(/^HTTP\/1\.1 502 [\s\S]*"code":"upstream_unreachable"/);
    expect(upstream.heads()).toHaveLength(2);
  });

  /** An upstream on one connection, kept after a request with a body: those have connections of their own. */
  async function keptByBodies() {
    const upstream = await breaking(1);
    const { ask, gateway } = await behind([upstream.url]);
    await warmUp(() => ask('PUT', 'body\r\n'), upstream);
    return { upstream, ask, gateway };
  }

  it('PUT with a small body is sent once more, with its body', async () => {
    const { upstream, ask } = await keptByBodies();
    expect(await ask('PUT', 'small body')).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ngood$/);
    expect(upstream.heads()).toHaveLength(3);
    expect(upstream.connections.at(-1)?.received).toMatch(/\r\ncontent-length: 10\r\n\r\nsmall body$/i);
  });

  it('so is the one after more bodies than are kept at once: what was answered is kept no longer', async () => {
    const body = 'x'.repeat(60_000);
    let left = 1200;
    let broken = false;
    const upstream = await startUpstream((req, res) => {
      req.resume();
      req.on('end', () => {
        if (left-- > 0) res.end('good');
        else if (broken) res.end('good again');
        else {
          broken = true;
          req.socket.destroy();
        }
      });
    });
    const { gateway } = await behind([upstream.url]);
    const { plaintext } = await gateway.key();
    const put = async () => (await gateway.get('/', plaintext, { method: 'PUT', body })).text();
    for (let n = 0; n < 1200; n += 20) {
      const some = await Promise.all(Array.from({ length: 20 }, put));
      expect(some).toEqual(Array(20).fill('good'));
    }
    expect(await put()).toBe('good again');
  });

  it('so is one whose body is still on its way, in chunks', async () => {
    let broken = false;
    const upstream = await startRawUpstream(({ socket }, nth) => {
      if (nth > 0) {
        broken = true;
        socket.destroy();
      } else if (!broken) socket.write(GOOD);
      else
        socket.on('data', (chunk) => {
          if (chunk.toString('latin1').endsWith('0\r\n\r\n')) socket.write(GOOD);
        });
    });
    const { ask, gateway } = await behind([upstream.url]);
    await warmUp(() => ask('PUT', 'body\r\n'), upstream);
    const { plaintext } = await gateway.key();
    const lines = `Host: h\r\nX-API-Key: ${plaintext}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n`;
    const socket = connect(gateway.port, '127.0.0.1', () =>
      socket.write(`PUT / HTTP/1.1\r\n${lines}\r\n5\r\nbegun\r\n`),
    );
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk;
    });
    await vi.waitFor(() => expect(upstream.connections.at(-1)?.received).toMatch(/\r\n\r\n5\r\nbegun/));
    expect(upstream.heads()).toHaveLength(3);
    socket.write('6\r\n ended\r\n0\r\n\r\n');
    await vi.waitFor(() => expect(received).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\ngood$/));
    expect(upstream.connections.at(-1)?.received).toMatch(/\r\n\r\n5\r\nbegun\r\n6\r\n ended\r\n0\r\n\r\n$/);
  });

  it.each(['POST', 'PATCH'])('%s with a small body is not sent again', async (method) => {
    const { upstream, ask } = await keptByBodies();
    expect(await ask(method, 'body')).toMatch(/^HTTP\/1\.1 502 /);
    expect(upstream.heads()).toHaveLength(2);
  });

  it.each([
    ['too much was sent', 'x'.repeat(200_000)],
    ['too many pieces were sent', '1\r\nx\r\n'.repeat(1000)],
  ])('PUT of which %s is not sent again: the body is not kept', async (_what, body) => {
    const inChunks = body.startsWith('1');
    // Breaks once half of it is there.
    const upstream = await startRawUpstream((connection, nth) => {
      const { socket } = connection;
      if (nth === 0) socket.write(GOOD);
      const look = () => {
        if (nth > 0 && connection.received.length >= body.length / 2) socket.destroy();
      };
      socket.on('data', look);
      look();
    });
    const { ask, gateway } = await behind([upstream.url]);
    await warmUp(() => ask('PUT', 'body\r\n'), upstream);
    const { plaintext } = await gateway.key();
    const framing = inChunks ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
    const answer = await sendRaw(
      gateway.port,
      `PUT / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\nConnection: close\r\n${framing}\r\n\r\n${body}${inChunks ? '0\r\n\r\n' : ''}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 502 /);
    expect(upstream.heads()).toHaveLength(2);
  });

  it('once and no more', async () => {
    const upstream = await startRawUpstream(({ socket }) => socket.destroy());
    const { ask } = await behind([upstream.url]);
    expect(await ask('GET')).toMatch(/^HTTP\/1\.1 502 /);
    expect(upstream.heads()).toHaveLength(2);
  });

  it('not when the budget is spent', async () => {
    const upstream = await startRawUpstream(({ socket }) => socket.destroy());
    const circuit = { failures: 1000, openMs: 1000 };
    const { ask } = await behind([upstream.url], { retryBudget: 0, circuit });
    for (let i = 0; i < 30; i++) expect(await ask('GET')).toMatch(/^HTTP\/1\.1 502 /);
    // A few are always allowed.
    expect(upstream.heads().length).toBeLessThanOrEqual(40);
  });

  it.each([
    ['one byte of an answer', 'H'],
    ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['an interim answer', 'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n'],
    ['what is no answer', '\x01\x02\x03'],
  ])('not after %s', async (_name, bytes) => {
    const upstream = await breaking(1, (socket) => socket.end(bytes));
    const { ask } = await behind([upstream.url]);
    await warmUp(ask, upstream);
    expect(await ask('GET')).toMatch(/HTTP\/1\.1 502 [\s\S]*"code":"upstream_unreachable"/);
    expect(upstream.heads()).toHaveLength(2);
  });

  it('not after a timeout: the upstream may be at work on it', async () => {
    const upstream = await startRawUpstream(() => {});
    const { ask } = await behind([upstream.url], { timeoutMs: 300 });
    expect(await ask('GET')).toMatch(/^HTTP\/1\.1 504 [\s\S]*"code":"upstream_timeout"/);
    expect(upstream.heads()).toHaveLength(1);
  });

  it('a client that left meanwhile: nothing is sent for it', async () => {
    let leave = () => {};
    const upstream = await startRawUpstream(({ socket }) => {
      leave();
      socket.destroy();
    });
    const { gateway } = await behind([upstream.url]);
    const { plaintext } = await gateway.key();
    const left = new AbortController();
    leave = () => left.abort();
    await gateway.get('/', plaintext, { signal: left.signal }).catch(() => {});
    await vi.waitFor(async () => {
      const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
      expect(metrics).toMatch(/requests_in_flight 0/);
    });
    expect(upstream.heads().length).toBeLessThanOrEqual(2);
  });
});

describe('an upstream that restarts closes all kept connections', () => {
  it.each(['end', 'resetAndDestroy'] as const)('no idempotent request fails (%s)', async (how) => {
    const idle = new Set<Socket>();
    const upstream = await startRawUpstream(({ socket }) => {
      idle.delete(socket);
      socket.write(GOOD, () => idle.add(socket));
    });
    const { ask } = await behind([upstream.url]);
    const twenty = () => Promise.all(Array.from({ length: 20 }, () => ask('GET')));
    for (let round = 0; round < 5; round++) {
      await twenty();
      const next = twenty();
      for (const socket of idle) socket[how]();
      idle.clear();
      expect((await next).filter((answer) => answer.startsWith('HTTP/1.1 200 '))).toHaveLength(20);
    }
  });
});

describe('a server that cannot be reached', () => {
  it.each([
    ['GET', ''],
    ['POST', 'body'],
  ])('%s goes to another one of its group, with its body', async (method, sent) => {
    const bodies: string[] = [];
    const good = await startUpstream((req, res) => {
      let body = '';
      req.on('data', (chunk) => {
        body += chunk;
      });
      req.on('end', () => {
        bodies.push(body);
        res.end('good');
      });
    });
    const { ask } = await behind([CLOSED, good.url]);
    for (let i = 0; i < 6; i++) expect(await ask(method, sent)).toMatch(/^HTTP\/1\.1 200 /);
    expect(bodies).toEqual(Array(6).fill(sent));
  });

  it('is not asked twice when there is no other', async () => {
    const { ask } = await behind([CLOSED]);
    expect(await ask('POST', 'body')).toMatch(/^HTTP\/1\.1 502 [\s\S]*"code":"upstream_unreachable"/);
  });

  it('nor are two of three', async () => {
    const tried: number[] = [];
    const servers = await Promise.all(
      [0, 1, 2].map((n) =>
        startRawUpstream(({ socket }) => {
          tried.push(n);
          socket.destroy();
        }),
      ),
    );
    const { ask } = await behind(servers.map(({ url }) => url));
    expect(await ask('GET')).toMatch(/^HTTP\/1\.1 502 /);
    expect(tried).toHaveLength(2);
    expect(new Set(tried).size).toBe(2);
  });
});

it('the rest of a body that could not be sent does not stand in the way of the next request', async () => {
  const { gateway } = await behind([CLOSED]);
  const { plaintext } = await gateway.key();
  const head = `POST / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\nContent-Length: 8\r\n\r\n`;
  const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`${head}half`));
  let received = '';
  socket.on('data', (chunk) => {
    received += chunk;
  });
  await vi.waitFor(() => expect(received).toMatch(/^HTTP\/1\.1 502 /));
  socket.write('halfGET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n');
  await new Promise((resolve) => socket.once('close', resolve));
  expect(received).toMatch(/}HTTP\/1\.1 200 /);
});
