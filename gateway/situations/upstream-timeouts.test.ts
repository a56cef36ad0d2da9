import { request } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startUpstream } from '../../test/gateways.ts';
import { eventually, LANES, gatewayBefore as startGatewayBefore } from '../../test/servers.ts';
import type { UpstreamSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

describe.each(LANES)('with the fast lane %s', (lane) => {
  const gatewayBefore = (urls: readonly string[], upstream: Partial<UpstreamSpec> = {}) =>
    startGatewayBefore(urls, upstream, lane);

  /** A server that accepts connections and does with them what it is told. */
  async function rawServer(onConnection: (socket: Socket) => void = () => {}) {
    const sockets = new Set<Socket>();
    const server = createTcpServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
      onConnection(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({
      close: async () => {
        for (const socket of sockets) socket.destroy();
        await new Promise<void>((resolve) => void server.close(() => resolve()));
      },
    });
    return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sockets };
  }

  it('a connection that does not come about in time: 502, and it is given up', async () => {
    // It accepts, but never says a word of TLS.
    const { address, sockets } = await rawServer((socket) => socket.resume());
    const { gateway, get } = await gatewayBefore([`https://${address}`], {
      connectTimeoutMs: 300,
      retryBudget: 0,
    });
    const response = await get();
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ code: 'upstream_unreachable' });
    await eventually(() => expect(sockets.size).toBe(0));
    expect(gateway.lines.join('')).toContain('UND_ERR_CONNECT_TIMEOUT');
  });

  it('an answer that does not begin in time: 504, and the request is taken back', async () => {
    const { address, sockets } = await rawServer((socket) => socket.resume());
    const { get } = await gatewayBefore([`http://${address}`], { timeoutMs: 300 });
    const response = await get();
    expect(response.status).toBe(504);
    expect(await response.json()).toMatchObject({ code: 'upstream_timeout' });
    await eventually(() => expect(sockets.size).toBe(0));
  });

  it('one client’s slow requests do not take the only server from all others', async () => {
    const { url } = await startUpstream((req, res) => {
      if (req.url !== '/slow') res.end('{}');
    });
    const { get } = await gatewayBefore([url], { timeoutMs: 300, circuit: { failures: 1, openMs: 60_000 } });
    expect((await get('/slow')).status).toBe(504);
    expect((await get('/quick')).status).toBe(200);
  });

  it('a request that took too long is not sent to another server: it may have been carried out', async () => {
    const { address } = await rawServer((socket) => socket.resume());
    const other = await startUpstream();
    const { get } = await gatewayBefore([`http://${address}`, other.url], { timeoutMs: 300 });
    expect((await get()).status).toBe(504);
    expect(other.requests).toHaveLength(0);
  });

  it.each([
    ['of known length', 'Content-Length: 100\r\n\r\nhalf'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
  ])('an answer %s that stops in the middle is cut off, and the client can tell', async (_how, rest) => {
    const { address, sockets } = await rawServer((socket) =>
      socket.once('data', () => socket.write(`HTTP/1.1 200 OK\r\n${rest}`)),
    );
    const { gateway, key } = await gatewayBefore([`http://${address}`], { idleTimeoutMs: 300 });
    let received = '';
    const error = await new Promise<Error | null>((resolve) => {
      const client = request(gateway.url, { headers: { 'X-API-Key': key } }, (response) => {
        response.on('data', (chunk: Buffer) => {
          received += chunk.toString();
        });
        response.on('error', resolve);
        response.on('end', () => resolve(null));
      });
      client.on('error', resolve);
      client.end();
    });
    expect(received).toBe('half');
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    await eventually(() => expect(sockets.size).toBe(0));
  });

  it('an answer may go on for as long as it does not stop', async () => {
    const upstream = await startUpstream((_req, res) => {
      let sent = 0;
      const timer = setInterval(() => {
        res.write(`${sent}`);
        sent++;
        if (sent === 20) {
          clearInterval(timer);
          res.end();
        }
      }, 100);
    });
    const { get } = await gatewayBefore([upstream.url], { idleTimeoutMs: 1500, timeoutMs: 1500 });
    expect(await (await get()).text()).toBe('012345678910111213141516171819');
  });
});
