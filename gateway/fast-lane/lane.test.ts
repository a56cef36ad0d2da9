import { randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  closeAll,
  closeLater,
  sendRaw,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from '../../test/gateways.ts';
import { acceptedSockets } from '../../test/servers.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';
import { routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

const BODY = '{"ok":true}';
/** Ends the answer to `/later` or `/chunked-later`. */
let finishLater = () => {};

/** A gateway with the fast lane in front of an upstream that answers plainly, but for the paths that say otherwise. */
async function withLane(options: Parameters<typeof startTestGateway>[0] = {}) {
  const sockets = new Set<unknown>();
  const bodies: string[] = [];
  const upstream = await startUpstream((req, res) => {
    sockets.add(req.socket);
    text(req).then(
      (body) => bodies.push(body),
      () => {},
    );
    if (req.url === '/never') return;
    if (req.url?.startsWith('/chunked')) res.write(BODY);
    else res.setHeader('Content-Length', BODY.length);
    if (req.url === '/later') res.flushHeaders();
    if (req.url === '/broken') req.socket.destroy();
    else if (req.url === '/chunked') res.end();
    else if (req.url === '/reads') req.once('end', () => res.end(BODY));
    else if (req.url?.endsWith('later')) finishLater = () => res.end(BODY);
    else res.end(BODY);
  });
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { FAST_LANE: 'on' }, ...options });
  const { plaintext, id } = await gateway.key('open');
  const lines = `Host: h\r\nX-API-Key: ${plaintext}\r\n\r\n`;
  return { gateway, upstream, sockets, bodies, lines, id };
}

async function figures(gateway: TestGateway): Promise<(name: string) => number> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
  return (name) => {
    const line = text.split('\n').find((each) => each.startsWith(`tollgate_gateway_${name} `));
    return Number(line?.split(' ').at(-1) ?? 0);
  };
}

const handedOver = (why: string) => `fast_lane_handed_over_total{why="${why}"}`;
const answers = (received: string, count: number) =>
  received.split('HTTP/1.1 ').length > count && received.endsWith('}');

describe('a plain request', () => {
  it('stays in the lane with all that come after it, on one connection to the upstream', async () => {
    const { gateway, sockets, lines, upstream } = await withLane();
    const socket = connect(gateway.port, '127.0.0.1');
    let received = '';
    socket.on('data', (data) => {
      received += data.toString('latin1');
    });
    for (let n = 1; n <= 5; n++) {
      socket.write(`GET /v1/items/${n} HTTP/1.1\r\n${lines}`);
      await vi.waitFor(() => expect(answers(received, n)).toBe(true));
    }
    socket.destroy();
    const figure = await figures(gateway);
    expect(figure('fast_lane_requests_total')).toBe(5);
    expect(figure('requests_total{outcome="forwarded",status="2xx"}')).toBe(5);
    expect(upstream.requests.map(({ url }) => url)).toEqual([1, 2, 3, 4, 5].map((n) => `/v1/items/${n}`));
    expect(sockets.size).toBe(1);
  });
});

describe('a request in several packets', () => {
  /** A piece after the other, each when the one before has been read. */
  async function inPieces(socket: Socket, pieces: Iterable<string>): Promise<void> {
    for (const piece of pieces) {
      socket.write(piece);
      await sleep(5);
    }
  }

  function connected(port: number) {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const got = { text: '' };
    socket.on('data', (data) => {
      got.text += data.toString('latin1');
    });
    return { socket, got };
  }

  const PATIENT = { ...LISTENER_LIMITS, gatherMs: 60_000 };

  it('stays in the lane, wherever they begin', async () => {
    const { gateway, lines, bodies } = await withLane({ listenerLimits: PATIENT });
    const { socket, got } = connected(gateway.port);
    const whole = `POST /v1/items HTTP/1.1\r\nContent-Length: 10\r\n${lines}0123456789`;
    const headEnd = whole.indexOf('\r\n\r\n');
    const cuts = [30, headEnd - 3, headEnd, headEnd + 1, headEnd + 3, headEnd + 4, headEnd + 9];
    for (const [n, cut] of cuts.entries()) {
      await inPieces(socket, [whole.slice(0, cut), whole.slice(cut)]);
      await vi.waitFor(() => expect(answers(got.text, n + 1)).toBe(true));
    }
    const three = [whole.slice(0, 40), whole.slice(40, headEnd + 6), whole.slice(headEnd + 6)];
    await inPieces(socket, three);
    await vi.waitFor(() => expect(answers(got.text, cuts.length + 1)).toBe(true));
    socket.destroy();
    const figure = await figures(gateway);
    expect(figure('fast_lane_requests_total')).toBe(cuts.length + 1);
    expect(figure(handedOver('incomplete'))).toBe(0);
    expect(bodies).toEqual(Array(cuts.length + 1).fill('0123456789'));
  });

  it('stays in the lane with a large body', async () => {
    const accepted = acceptedSockets();
    const { gateway, lines, bodies, sockets } = await withLane({ listenerLimits: PATIENT });
    const { socket, got } = connected(gateway.port);
    const sent: string[] = [];
    for (const size of [200_000, 1_000_000, 70_000]) {
      const body = randomBytes(size / 2).toString('hex');
      sent.push(body);
      const whole = `POST /reads HTTP/1.1\r\nContent-Length: ${size}\r\n${lines}${body}`;
      await inPieces(socket, size > 500_000 ? [whole] : (whole.match(/.{1,60000}/gs) as string[]));
      await vi.waitFor(() => expect(answers(got.text, sent.length)).toBe(true));
    }
    // As much as ever: what a client sends beside an answer that it does not take has to end somewhere.
    const ours = accepted.find(({ localPort }) => localPort === gateway.port);
    expect(ours?.readableHighWaterMark).toBe(new Socket().readableHighWaterMark);
    socket.destroy();
    expect(bodies).toEqual(sent);
    expect(sockets.size).toBe(1);
    const figure = await figures(gateway);
    expect(figure('fast_lane_requests_total')).toBe(sent.length);
    expect(figure(handedOver('incomplete'))).toBe(0);
  });

  it('goes to node:http when it is larger than is kept', async () => {
    const { gateway, lines, bodies } = await withLane({ listenerLimits: PATIENT });
    const { socket, got } = connected(gateway.port);
    const body = 'x'.repeat(1024 * 1024);
    socket.write(`POST /reads HTTP/1.1\r\nContent-Length: ${body.length}\r\n${lines}${body}`);
    await vi.waitFor(() => expect(answers(got.text, 1)).toBe(true));
    socket.destroy();
    expect(bodies).toEqual([body]);
    expect((await figures(gateway))(handedOver('incomplete'))).toBe(1);
  });

  it('goes to node:http when too much is kept already, until that is let go', async () => {
    const { gateway, lines } = await withLane({ listenerLimits: PATIENT });
    const handOvers = async () => (await figures(gateway))(handedOver('incomplete'));
    // 67 of them are 64 MiB.
    const beginning = `POST /reads HTTP/1.1\r\nContent-Length: 1000000\r\n${lines}`;
    for (let round = 1; round <= 2; round++) {
      const before = await handOvers();
      const begun = Array.from({ length: 67 }, () => connected(gateway.port));
      for (const { socket } of begun) socket.write(beginning);
      await vi.waitFor(async () => expect((await figures(gateway))('fast_lane_bytes')).toBeGreaterThan(67e6));
      expect(await handOvers()).toBe(before);
      begun.push(connected(gateway.port));
      begun.at(-1)?.socket.write(beginning);
      await vi.waitFor(async () => expect(await handOvers()).toBe(before + 1));
      // Some are finished, and some never.
      for (const { socket, got } of begun.slice(0, 5)) {
        socket.write('x'.repeat(1_000_000));
        await vi.waitFor(() => expect(answers(got.text, 1)).toBe(true));
      }
      for (const { socket } of begun) socket.destroy();
      await vi.waitFor(async () => expect((await figures(gateway))('fast_lane_bytes')).toBe(0));
    }
  });

  it('that comes behind another is whole, and so is the next one', async () => {
    const { gateway, lines, bodies } = await withLane({ listenerLimits: PATIENT });
    const { socket, got } = connected(gateway.port);
    const body = randomBytes(200_000).toString('hex');
    const whole = `POST /reads HTTP/1.1\r\nContent-Length: ${body.length}\r\n${lines}${body}`;
    // The lane holds the first four and pauses then; the socket keeps a small one, and as much as it may.
    const cuts = [0, 20_000, 40_000, 60_000, 80_000, 81_000, 145_000, 209_000, 300_000, whole.length];
    const packets = cuts.slice(1).map((cut, n) => whole.slice(cuts[n], cut));
    socket.write(`GET /later HTTP/1.1\r\n${lines}`);
    await vi.waitFor(() => expect(got.text).toContain('HTTP/1.1 200'));
    // What the lane does not hold waits in the socket, in many pieces.
    await inPieces(socket, packets.slice(0, 7));
    finishLater();
    await vi.waitFor(() => expect(got.text).toContain(BODY));
    await inPieces(socket, packets.slice(7));
    await vi.waitFor(() => expect(answers(got.text, 2)).toBe(true));
    socket.write(`POST /reads HTTP/1.1\r\nContent-Length: 5\r\n${lines}after`);
    await vi.waitFor(() => expect(answers(got.text, 3)).toBe(true));
    socket.destroy();
    expect(bodies).toEqual(['', body, 'after']);
    await vi.waitFor(async () => expect((await figures(gateway))('fast_lane_bytes')).toBe(0));
  });

  it('is not waited for where the route is not for the lane', async () => {
    const upstream = await startUpstream((_req, res) => res.end());
    const route = routeTo(upstream.url, 60_000);
    const routes = [{ ...route, policy: { ...route.policy, access: 'public' as const } }];
    const { gateway, lines } = await withLane({ routes, listenerLimits: PATIENT });
    const { socket } = connected(gateway.port);
    socket.write(`POST / HTTP/1.1\r\nContent-Length: 900000\r\n${lines}${'x'.repeat(50_000)}`);
    await vi.waitFor(() => expect(upstream.requests.length).toBe(1));
    socket.destroy();
    expect((await figures(gateway))(handedOver('route'))).toBe(1);
  });

  it('that goes to node:http after all counts as kept until it is answered, and nothing of it is kept after that', async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc') as () => void;
    const inUse = () => {
      gc();
      return process.memoryUsage().arrayBuffers;
    };
    const { gateway, lines, bodies } = await withLane({ listenerLimits: PATIENT });
    const body = 'x'.repeat(1_000_000);
    const whole = `Content-Length: ${body.length}\r\n${lines}${body}`;
    const { socket: other } = connected(gateway.port);
    other.write(`POST /chunked-later HTTP/1.1\r\n${whole}`);
    await vi.waitFor(async () => {
      const figure = await figures(gateway);
      expect(figure(handedOver('answer'))).toBe(1);
      expect(figure('fast_lane_bytes')).toBeGreaterThan(1_000_000);
    });
    finishLater();
    await vi.waitFor(async () => expect((await figures(gateway))('fast_lane_bytes')).toBe(0));
    const before = inUse();
    for (let n = 0; n < 20; n++) {
      const { socket, got } = connected(gateway.port);
      socket.write(`POST /chunked HTTP/1.1\r\n${whole}`);
      await vi.waitFor(() => expect(got.text).toMatch(/0\r\n\r\n$/));
    }
    bodies.length = 0;
    await vi.waitFor(() => expect(inUse() - before).toBeLessThan(5_000_000));
  });

  it('that is answered while it is still being sent is followed by no other on that connection', async () => {
    const upstreams: Socket[] = [];
    const neverReads = createServer({ pauseOnConnect: true }, (socket) => {
      upstreams.push(socket.on('error', () => {}));
    });
    await new Promise<void>((resolve) => neverReads.listen(0, '127.0.0.1', resolve));
    closeLater({ close: async () => void neverReads.close() });
    const { port } = neverReads.address() as AddressInfo;
    const routes = [routeTo(`http://127.0.0.1:${port}`, 60_000)];
    const { gateway, lines } = await withLane({ routes, listenerLimits: PATIENT });
    const { socket, got } = connected(gateway.port);
    // The system takes some megabytes before a reader has to.
    for (let n = 1; n <= 12; n++) {
      socket.write(`POST / HTTP/1.1\r\nContent-Length: 1000000\r\n${lines}${'x'.repeat(1_000_000)}`);
      await vi.waitFor(async () => {
        expect((await figures(gateway))('fast_lane_requests_total')).toBe(n);
        upstreams.at(-1)?.write(`HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`);
        await vi.waitFor(() => expect(answers(got.text, n)).toBe(true), { timeout: 1000 });
      });
    }
    socket.destroy();
    for (const each of upstreams) each.destroy();
    expect(upstreams.length).toBeGreaterThan(1);
  });

  it('goes to node:http when the rest takes its time, also when a little comes again and again', async () => {
    const listenerLimits = { ...LISTENER_LIMITS, gatherMs: 50 };
    const { gateway, lines, bodies } = await withLane({ listenerLimits });
    const { socket, got } = connected(gateway.port);
    const begun = performance.now();
    await inPieces(socket, [`POST / HTTP/1.1\r\nContent-Length: 3000\r\n${lines}`]);
    let sent = 0;
    for (; (await figures(gateway))(handedOver('incomplete')) === 0 && sent < 290; sent++)
      await inPieces(socket, ['x']);
    expect(sent).toBeLessThan(290);
    // Of what never came, nothing is kept.
    expect((await figures(gateway))('fast_lane_bytes')).toBeLessThan(1000);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(50);
    socket.write('x'.repeat(3000 - sent));
    await vi.waitFor(() => expect(answers(got.text, 1)).toBe(true));
    socket.destroy();
    expect(bodies).toEqual(['x'.repeat(3000)]);
    expect((await figures(gateway))('fast_lane_requests_total')).toBe(0);
  });

  it('that its client never finishes is node:http’s at once, and answered as ever', async () => {
    const { gateway, lines } = await withLane();
    const { socket, got } = connected(gateway.port);
    await inPieces(socket, [`POST / HTTP/1.1\r\nContent-Length: 10\r\n${lines}`, '01234']);
    socket.end();
    await vi.waitFor(() => expect(got.text).toMatch(/^HTTP\/1.1 400 /));
    expect((await figures(gateway))(handedOver('incomplete'))).toBe(1);
  });
});

describe('what the lane does not understand goes to node:http, counted once and answered as ever', () => {
  it.each([
    ['an answer in chunks', 'answer', (lines: string) => `GET /chunked HTTP/1.1\r\n${lines}`, 200, 1],
    ['HEAD', 'unusual', (lines: string) => `HEAD / HTTP/1.1\r\nConnection: close\r\n${lines}`, 200, 1],
    ['two requests at once', 'pipelined', (lines: string) => `GET / HTTP/1.1\r\n${lines}`.repeat(2), 200, 2],
    ['an endpoint of ours', 'route', (lines: string) => `GET /whoami HTTP/1.1\r\n${lines}`, 200, 0],
    ['a connection that breaks', 'broken', (lines: string) => `POST /broken HTTP/1.1\r\n${lines}`, 502, 1],
  ])('%s', async (_name, why, bytes, status, used) => {
    const { gateway, lines, id } = await withLane();
    const received = await sendRaw(gateway.port, bytes(lines), (text) => /(?:\}|0\r\n\r\n)$/.test(text));
    expect(received).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    await vi.waitFor(async () => {
      const figure = await figures(gateway);
      expect(figure(handedOver(why))).toBe(1);
      expect(figure('requests_in_flight')).toBe(0);
    });
    await gateway.close();
    expect((await gateway.keystore.findKeyFacts(id))?.usedThisMonth).toBe(used);
  });

  it('a request for a server that the lane can have no connection to: it goes to that server', async () => {
    const asked: string[] = [];
    const urls: [string, ...string[]] = ['', ''];
    for (const at of [0, 1]) {
      const server = await startUpstream((req, res) => {
        asked.push(`${at} ${req.method}`);
        req.resume().on('end', () => res.end(BODY));
      });
      urls[at] = server.url;
    }
    const route = routeTo(urls[0], 60_000);
    const routes = [{ ...route, upstream: { ...route.upstream, urls, maxConnections: 1 } }];
    const { gateway, lines } = await withLane({ routes });
    // Neither for the lane nor for its links, and the connections they leave behind are all that may be opened.
    for (let n = 0; n < 2; n++)
      await sendRaw(gateway.port, `POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n${lines}{}`);
    for (let n = 0; n < 2; n++)
      await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}`, (text) => /\}(?:\r\n0\r\n\r\n)?$/.test(text));
    expect(asked).toEqual(['0 POST', '1 POST', '0 GET', '1 GET']);
    expect((await figures(gateway))(handedOver('busy'))).toBe(2);
  });

  it('a connection on which nothing comes', async () => {
    const limits = { ...LISTENER_LIMITS, headersMs: 300, checkMs: 50 };
    const { gateway } = await withLane({ listenerLimits: limits });
    expect(await sendRaw(gateway.port, '')).toMatch(/^HTTP\/1.1 408 /);
    expect((await figures(gateway))(handedOver('silent'))).toBe(1);
  });
});

describe('a client that leaves', () => {
  it('in the moment in which its connection goes over to node:http gives back what its request took', async () => {
    const accepted = acceptedSockets();
    const { gateway, lines } = await withLane();
    const client = connect(gateway.port, '127.0.0.1');
    client.on('error', () => {});
    await vi.waitFor(() => expect(accepted.some(({ localPort }) => localPort === gateway.port)).toBe(true));
    const ours = accepted.find(({ localPort }) => localPort === gateway.port) as Socket;
    ours.unshift = () => void ours.destroy();
    client.write(`GET /chunked HTTP/1.1\r\n${lines}`);
    await vi.waitFor(async () => {
      const figure = await figures(gateway);
      expect(figure(handedOver('answer'))).toBe(1);
      expect(figure('requests_total{outcome="forwarded",status="none"}')).toBe(1);
      expect(figure('requests_in_flight')).toBe(0);
      const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
      expect(text).toMatch(/^tollgate_gateway_upstream_pending\{.*\} 0$/m);
    });
  });

  it('ends its request upstream', async () => {
    const { gateway, lines, sockets } = await withLane();
    const socket = connect(gateway.port, '127.0.0.1');
    socket.write(`GET /never HTTP/1.1\r\n${lines}`);
    await vi.waitFor(() => expect(sockets.size).toBe(1));
    socket.destroy();
    const [upstreamSocket] = sockets as Set<{ destroyed: boolean }>;
    await vi.waitFor(() => expect(upstreamSocket?.destroyed).toBe(true));
    await vi.waitFor(async () => {
      const figure = await figures(gateway);
      expect(figure('requests_total{outcome="forwarded",status="none"}')).toBe(1);
      expect(figure('requests_in_flight')).toBe(0);
    });
  });
});
