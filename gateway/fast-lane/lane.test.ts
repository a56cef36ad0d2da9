import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  closeAll,
  closeLater,
  sendRaw,
  startTestGateway,
  startUpstream,
  type TestGateway,
} from '../../test/gateways.ts';
import { LISTENER_LIMITS } from '../listener/listener.ts';
import { routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

const BODY = '{"ok":true}';

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
    if (req.url === '/chunked') res.write(BODY);
    else res.setHeader('Content-Length', BODY.length);
    if (req.url === '/broken') req.socket.destroy();
    else if (req.url === '/chunked') res.end();
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
      await vi.waitFor(() => expect(answers(received, n)).toBe(true), { timeout: 10_000 });
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

  it('stays in the lane, wherever they begin', async () => {
    const { gateway, lines, bodies } = await withLane();
    const { socket, got } = connected(gateway.port);
    const whole = `POST /v1/items HTTP/1.1\r\nContent-Length: 10\r\n${lines}0123456789`;
    const headEnd = whole.indexOf('\r\n\r\n');
    const cuts = [30, headEnd - 3, headEnd, headEnd + 1, headEnd + 3, headEnd + 4, headEnd + 9];
    for (const [n, cut] of cuts.entries()) {
      await inPieces(socket, [whole.slice(0, cut), whole.slice(cut)]);
      await vi.waitFor(() => expect(answers(got.text, n + 1)).toBe(true), { timeout: 10_000 });
    }
    const three = [whole.slice(0, 40), whole.slice(40, headEnd + 6), whole.slice(headEnd + 6)];
    await inPieces(socket, three);
    await vi.waitFor(() => expect(answers(got.text, cuts.length + 1)).toBe(true), { timeout: 10_000 });
    socket.destroy();
    const figure = await figures(gateway);
    expect(figure('fast_lane_requests_total')).toBe(cuts.length + 1);
    expect(figure(handedOver('incomplete'))).toBe(0);
    expect(bodies).toEqual(Array(cuts.length + 1).fill('0123456789'));
  });

  it('goes to node:http when the rest takes its time, also when a little comes again and again', async () => {
    const listenerLimits = { ...LISTENER_LIMITS, checkMs: 50 };
    const { gateway, lines, bodies } = await withLane({ listenerLimits });
    const { socket, got } = connected(gateway.port);
    await inPieces(socket, [`POST / HTTP/1.1\r\nContent-Length: 300\r\n${lines}`]);
    let sent = 0;
    const begun = performance.now();
    for (; (await figures(gateway))(handedOver('incomplete')) === 0 && sent < 290; sent++)
      await inPieces(socket, ['x']);
    expect(sent).toBeLessThan(290);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(50);
    socket.write('x'.repeat(300 - sent));
    await vi.waitFor(() => expect(answers(got.text, 1)).toBe(true), { timeout: 10_000 });
    socket.destroy();
    expect(bodies).toEqual(['x'.repeat(300)]);
    expect((await figures(gateway))('fast_lane_requests_total')).toBe(0);
  });

  it('that its client never finishes is node:http’s at once, and answered as ever', async () => {
    const { gateway, lines } = await withLane();
    const { socket, got } = connected(gateway.port);
    await inPieces(socket, [`POST / HTTP/1.1\r\nContent-Length: 10\r\n${lines}`, '01234']);
    socket.end();
    await vi.waitFor(() => expect(got.text).toMatch(/^HTTP\/1.1 400 /), { timeout: 10_000 });
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
    await vi.waitFor(
      async () => {
        const figure = await figures(gateway);
        expect(figure(handedOver(why))).toBe(1);
        expect(figure('requests_in_flight')).toBe(0);
      },
      { timeout: 10_000 },
    );
    await gateway.close();
    expect((await gateway.keystore.findKeyFacts(id))?.usedThisMonth).toBe(used);
  });

  it('a request for a server that the lane can have no connection to: it goes to that server', async () => {
    const asked: string[] = [];
    const urls: [string, ...string[]] = ['', ''];
    for (const at of [0, 1]) {
      const server = await startUpstream((req, res) => {
        asked.push(`${at} ${req.method}`);
        res.end(BODY);
      });
      urls[at] = server.url;
    }
    const route = routeTo(urls[0], 60_000);
    const routes = [{ ...route, upstream: { ...route.upstream, urls, maxConnections: 1 } }];
    const { gateway, lines } = await withLane({ routes });
    // Not for the lane, and the connections they leave behind are all that may be opened.
    for (let n = 0; n < 2; n++)
      await sendRaw(gateway.port, `OPTIONS / HTTP/1.1\r\nConnection: close\r\n${lines}`);
    for (let n = 0; n < 2; n++)
      await sendRaw(gateway.port, `GET / HTTP/1.1\r\n${lines}`, (text) => /\}(?:\r\n0\r\n\r\n)?$/.test(text));
    expect(asked).toEqual(['0 OPTIONS', '1 OPTIONS', '0 GET', '1 GET']);
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
    const accepted: Socket[] = [];
    const onSocket = (message: unknown) => void accepted.push((message as { socket: Socket }).socket);
    subscribe('net.server.socket', onSocket);
    closeLater({ close: async () => void unsubscribe('net.server.socket', onSocket) });
    const { gateway, lines } = await withLane();
    const client = connect(gateway.port, '127.0.0.1');
    client.on('error', () => {});
    await vi.waitFor(() => expect(accepted.some(({ localPort }) => localPort === gateway.port)).toBe(true));
    const ours = accepted.find(({ localPort }) => localPort === gateway.port) as Socket;
    ours.unshift = () => void ours.destroy();
    client.write(`GET /chunked HTTP/1.1\r\n${lines}`);
    await vi.waitFor(
      async () => {
        const figure = await figures(gateway);
        expect(figure(handedOver('answer'))).toBe(1);
        expect(figure('requests_total{outcome="forwarded",status="none"}')).toBe(1);
        expect(figure('requests_in_flight')).toBe(0);
        const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
        expect(text).toMatch(/^tollgate_gateway_upstream_pending\{.*\} 0$/m);
      },
      { timeout: 10_000 },
    );
  });

  it('ends its request upstream', async () => {
    const { gateway, lines, sockets } = await withLane();
    const socket = connect(gateway.port, '127.0.0.1');
    socket.write(`GET /never HTTP/1.1\r\n${lines}`);
    await vi.waitFor(() => expect(sockets.size).toBe(1), { timeout: 10_000 });
    socket.destroy();
    const [upstreamSocket] = sockets as Set<{ destroyed: boolean }>;
    await vi.waitFor(() => expect(upstreamSocket?.destroyed).toBe(true), { timeout: 10_000 });
    await vi.waitFor(
      async () => {
        const figure = await figures(gateway);
        expect(figure('requests_total{outcome="forwarded",status="none"}')).toBe(1);
        expect(figure('requests_in_flight')).toBe(0);
      },
      { timeout: 10_000 },
    );
  });
});
