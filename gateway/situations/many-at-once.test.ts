import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startUpstream, type TestGateway } from '../../test/gateways.ts';
import { eventually, LANES, metric, gatewayBefore as startGatewayBefore } from '../../test/servers.ts';

afterEach(closeAll);

const CLIENTS = 200;
const WITH_BODY = 'Content-Length: 2\r\n\r\nhi';
const BROKEN_BODY = 'Transfer-Encoding: chunked\r\n\r\nno chunk\r\n';

/** All connect first, then all send. */
async function sendAtOnce({ port }: { port: number }, key: string, rest: string) {
  const received = Array.from({ length: CLIENTS }, () => '');
  const sockets = received.map((_, i) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.on('data', (data) => {
      received[i] += data.toString('latin1');
    });
    closeLater({ close: async () => void socket.destroy() });
    return socket;
  });
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  for (const socket of sockets) socket.write(`POST /x HTTP/1.1\r\nHost: h\r\nX-API-Key: ${key}\r\n${rest}`);
  return { received, sockets };
}

const allAnswered = (received: string[]) =>
  eventually(() => {
    for (const text of received) expect(text).toMatch(/^HTTP\/1.1 200 .*done$/s);
  });
const nothingUnderWay = (gateway: TestGateway) =>
  eventually(async () => {
    expect(await metric(gateway, 'tollgate_gateway_requests_in_flight')).toBe(0);
    expect(await metric(gateway, 'tollgate_gateway_upstream_pending')).toBe(0);
  });

describe.each(LANES)('requests at the same moment on new connections, with the fast lane %s', (lane) => {
  it('have one each where answers are slow, and none waits for another’s answer', async () => {
    const held: ServerResponse[] = [];
    const upstream = await startUpstream((_req, res) => void held.push(res));
    const { gateway, key } = await startGatewayBefore([upstream.url], {}, lane);
    const { received } = await sendAtOnce(gateway, key, WITH_BODY);
    await eventually(() => expect(held).toHaveLength(CLIENTS));
    for (const res of held) res.end('done');
    await allAnswered(received);
  });

  it('leave nothing behind when their clients leave at once', async () => {
    const upstream = await startUpstream(() => {});
    const { gateway, key } = await startGatewayBefore([upstream.url], {}, lane);
    const { sockets } = await sendAtOnce(gateway, key, WITH_BODY);
    await eventually(() => expect(upstream.requests.length).toBeGreaterThan(0));
    for (const socket of sockets) socket.destroy();
    await nothingUnderWay(gateway);
  });

  it('leave nothing behind when their bodies cannot be read', async () => {
    const upstream = await startUpstream((_req, res) => void res.end('done'));
    const { gateway, key } = await startGatewayBefore([upstream.url], {}, lane);
    const { received } = await sendAtOnce(gateway, key, BROKEN_BODY);
    await eventually(() => {
      for (const text of received) expect(text).toMatch(/^HTTP\/1.1 (400|200) /);
    });
    await nothingUnderWay(gateway);
  });
});

it('requests at the same moment in the fast lane have fewer connections opened than they are, where answers are quick', async () => {
  const upstream = await startUpstream((_req, res) => void res.end('done'));
  const { gateway, key } = await startGatewayBefore([upstream.url], {}, 'on');
  const { received } = await sendAtOnce(gateway, key, WITH_BODY);
  await allAnswered(received);
  expect(upstream.requests).toHaveLength(CLIENTS);
  expect(await metric(gateway, 'tollgate_gateway_upstream_connections')).toBeLessThan(CLIENTS * 0.9);
});
