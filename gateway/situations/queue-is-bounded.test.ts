import { request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startUpstream } from '../../test/gateways.ts';
import { eventually, LANES, metric, gatewayBefore as startGatewayBefore } from '../../test/servers.ts';
import type { UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

describe.each(LANES)('with the fast lane %s', (lane) => {
  const gatewayBefore = (urls: readonly string[], upstream: Partial<UpstreamSpec> = {}) =>
    startGatewayBefore(urls, upstream, lane);

  /** An upstream that answers when it is told to, in front of which there is a gateway with room for two at a time. */
  async function busy(more: { queueTimeoutMs?: number } = {}) {
    const held: ServerResponse[] = [];
    const upstream = await startUpstream((_req, res) => void held.push(res));
    const before = await gatewayBefore([upstream.url], {
      maxConnections: 2,
      queueTimeoutMs: 60_000,
      ...more,
    });
    const waiting = (count: number) =>
      eventually(async () =>
        expect(await metric(before.gateway, 'tollgate_gateway_upstream_waiting')).toBe(count),
      );
    const answer = () => held.shift()?.end('done');
    return { ...before, upstream, held, waiting, answer };
  }

  it('requests beyond the connections wait, and are sent in turn', async () => {
    const { gateway, get, upstream, held, waiting, answer } = await busy();
    const answers = [get('/1'), get('/2')];
    await eventually(() => expect(held).toHaveLength(2));
    answers.push(get('/3'));
    await waiting(1);
    answers.push(get('/4'));
    await waiting(2);
    expect(upstream.requests).toHaveLength(2);
    for (const sent of [3, 4]) {
      answer();
      await eventually(() => expect(upstream.requests).toHaveLength(sent));
      expect(upstream.requests[sent - 1]?.url).toBe(`/${sent}`);
    }
    answer();
    answer();
    for (const each of answers) expect(await (await each).text()).toBe('done');
    expect(await metric(gateway, 'tollgate_gateway_upstream_connections')).toBeLessThanOrEqual(2);
  });

  it('too many that wait are turned away at once: 503, not the customer’s fault', async () => {
    const { get, held, waiting, answer } = await busy();
    const answers = [get(), get(), get(), get()];
    await waiting(2);
    const response = await get();
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('1');
    expect(await response.json()).toMatchObject({ code: 'overloaded' });
    for (let i = 0; i < 4; i++) {
      await eventually(() => expect(held.length).toBeGreaterThan(0));
      answer();
    }
    for (const each of answers) expect((await each).status).toBe(200);
  });

  it('one that waits and whose body turns out to be unreadable is told so, and waits no longer', async () => {
    const { gateway, key, get, held, upstream, waiting, answer } = await busy();
    const answers = [get(), get()];
    await eventually(() => expect(held).toHaveLength(2));
    const socket = connect(gateway.port, '127.0.0.1');
    let received = '';
    socket.on('data', (data) => {
      received += data.toString('latin1');
    });
    socket.write(`POST / HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    await waiting(1);
    socket.write('no chunk\r\n');
    await eventually(() => expect(received).toMatch(/^HTTP\/1.1 400 .*"code":"invalid_request"/s));
    await waiting(0);
    answer();
    answer();
    for (const each of answers) expect((await each).status).toBe(200);
    expect(upstream.requests).toHaveLength(2);
  });

  it('none waits for longer than it should: 503', async () => {
    const { get, held, upstream, answer } = await busy({ queueTimeoutMs: 200 });
    const answers = [get(), get()];
    await eventually(() => expect(held).toHaveLength(2));
    const started = performance.now();
    const response = await get();
    expect(performance.now() - started).toBeGreaterThan(150);
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ code: 'overloaded' });
    // It was never sent.
    expect(upstream.requests).toHaveLength(2);
    answer();
    answer();
    for (const each of answers) expect((await each).status).toBe(200);
  });

  it('a client that leaves no longer waits, and its request is not sent', async () => {
    const { gateway, key, get, upstream, held, waiting, answer } = await busy();
    const answers = [get('/1'), get('/2')];
    await eventually(() => expect(held).toHaveLength(2));
    const impatient = request(`${gateway.url}/left`, { headers: { 'X-API-Key': key } });
    impatient.on('error', () => {});
    impatient.end();
    await waiting(1);
    impatient.destroy();
    await waiting(0);
    answers.push(get('/3'));
    await waiting(1);
    for (let i = 0; i < 3; i++) {
      await eventually(() => expect(held.length).toBeGreaterThan(0));
      answer();
    }
    for (const each of answers) expect((await each).status).toBe(200);
    expect(upstream.requests.map(({ url }) => url).sort()).toEqual(['/1', '/2', '/3']);
  });

  it('those that wait for a server that dies are told at once', async () => {
    const sockets: { destroy(): void }[] = [];
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      sockets.push(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({ close: () => new Promise<void>((resolve) => void server.close(() => resolve())) });
    const { gateway, key } = await gatewayBefore(
      [`http://127.0.0.1:${(server.address() as AddressInfo).port}`],
      { maxConnections: 1, queueTimeoutMs: 60_000, circuit: { failures: 1, openMs: 60_000 } },
    );
    const post = () => gateway.get('/', key, { method: 'POST' });
    const first = post();
    await eventually(() => expect(sockets).toHaveLength(1));
    const second = post();
    await eventually(async () => expect(await metric(gateway, 'tollgate_gateway_upstream_waiting')).toBe(1));
    sockets[0]?.destroy();
    expect((await first).status).toBe(502);
    expect((await second).status).toBe(502);
    expect(sockets).toHaveLength(1);
  });
});
