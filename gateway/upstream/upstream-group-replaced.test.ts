import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { closeAll, closeLater } from '../../test/gateways.ts';
import { eventually, routeToServers } from '../../test/servers.ts';
import { Links } from '../links/links.ts';
import { type Target, UpstreamGroup } from './upstream-group.ts';

afterEach(closeAll);

/** A group of one server, which answers when it is told to. */
async function group({ maxConnections = 10 } = {}) {
  const held: ServerResponse[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ keepAliveTimeout: 60_000 }, (_req, res) => void held.push(res));
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const servers = new UpstreamGroup(routeToServers([url], { maxConnections }).upstream);
  closeLater({ close: () => servers.destroy() });
  const askOf = async (target: Target) => {
    try {
      const { body } = await target.dispatcher.request({ method: 'GET', path: '/' });
      return await body.text();
    } finally {
      servers.release(target);
    }
  };
  const ask = () => askOf(servers.pick() as Target);
  const answer = async (text: string) => {
    await eventually(() => expect(held).toHaveLength(1));
    held.pop()?.end(text);
  };
  return { servers, ask, askOf, answer, held, sockets };
}

it('lets a request under way finish, and then ends its connection', async () => {
  const { servers, ask, answer, held, sockets } = await group();
  const underWay = ask();
  await eventually(() => expect(held).toHaveLength(1));
  const closed = servers.close();
  await answer('whole');
  expect(await underWay).toBe('whole');
  await closed;
  await eventually(() => expect(sockets.size).toBe(0));
});

it('ends idle connections at once', async () => {
  const { servers, ask, answer, sockets } = await group();
  const first = ask();
  await answer('one');
  await first;
  expect(sockets.size).toBe(1);
  await servers.close();
  await eventually(() => expect(sockets.size).toBe(0));
  await eventually(() => expect(servers.targets[0]?.connections).toBe(0));
});

it('answers a request that was on its way to it, on a connection of its own', async () => {
  const { servers, ask, answer, sockets } = await group();
  await servers.close();
  const late = ask();
  await answer('late');
  expect(await late).toBe('late');
  await eventually(() => expect(sockets.size).toBe(0));
});

it('gives those that wait their turn', async () => {
  const { servers, ask, askOf, answer, held } = await group({ maxConnections: 1 });
  const first = ask();
  await eventually(() => expect(held).toHaveLength(1));
  expect(servers.pick()).toBeNull();
  const second = new Promise<string>((resolve, reject) => {
    const refused = servers.wait({ onRoom: (target) => resolve(askOf(target)), onNoRoom: reject });
    if (refused !== null) reject(refused);
  });
  const closed = servers.close();
  await answer('first');
  await answer('second');
  expect(await Promise.all([first, second])).toEqual(['first', 'second']);
  await closed;
});

it('has no links for a request that comes late, and nothing is remembered of them', async () => {
  const { servers } = await group();
  const [target] = servers.targets as [Target];
  await servers.close();
  const links = new Links(target, { now: 0 }, () => true, 0);
  expect(links.take(10)).toBeNull();
  expect(links.over).toBe(true);
});
