import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Dispatcher } from 'undici';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { closeAll, startTestGateway } from '../../test/gateways.ts';
import { startRawUpstream } from '../../test/raw-upstreams.ts';
import { routeTo } from '../routes/route-spec.ts';
import { Target } from '../upstream/upstream-group.ts';
import { askOverLink, isForLink } from './linked-request.ts';
import { UpstreamLinks } from './upstream-links.ts';

afterEach(closeAll);

/** An upstream that answers every request with so many bytes, and what is needed to ask it. */
async function upstreamWith(bytes: number) {
  const server = createServer((_req, res) => res.end(Buffer.alloc(bytes, 'x'))).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { upstream: spec } = routeTo(url, 60_000);
  const target = new Target(url, spec);
  const links = new UpstreamLinks({ sweepMs: 50, otherwiseMs: 10_000 });
  onTestFinished(async () => {
    links.close();
    await target.destroy();
    server.close();
  });
  return { links, target, spec };
}

/** How much comes of the answer to a request, taken by somebody who has every piece of it followed by a pause. */
function takenSlowly({ links, target, spec }: Awaited<ReturnType<typeof upstreamWith>>): Promise<number> {
  return new Promise((resolve, reject) => {
    let length = 0;
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() {},
      onResponseStart() {},
      onResponseData(controller, chunk) {
        length += chunk.length;
        controller.pause();
        setTimeout(() => controller.resume(), 5);
      },
      onResponseEnd: () => resolve(length),
      onResponseError: (_controller, error) => reject(error),
    };
    const request = { method: 'GET', path: '/', headers: ['X-Some', 'thing'] };
    if (!askOverLink(links, target, spec, request, handler, performance.now()))
      reject(new Error('It was not sent'));
  });
}

describe('a request over a link', () => {
  it('whose answer is taken slowly to its last piece does not keep the next one from its own', async () => {
    const upstream = await upstreamWith(200_000);
    for (let n = 0; n < 4; n++) expect(await takenSlowly(upstream)).toBe(200_000);
  });

  it('is not sent where its head would say more than one thing, or anything that is not plain', async () => {
    const { links, target, spec } = await upstreamWith(2);
    const sent = (path: string, value: string) =>
      askOverLink(links, target, spec, { method: 'GET', path, headers: ['X-Some', value] }, {}, 0);
    expect(sent('/caf\u00e9', 'thing')).toBeNull();
    expect(sent('/', 'caf\u00e9')).toBeNull();
    expect(sent('/', 'nul\0')).toBeNull();
    expect(sent('http://elsewhere/', 'thing')).toBeNull();
    expect(target.connections).toBe(0);
  });

  it('is not for HEAD and CONNECT, TLS and HTTP/2', () => {
    const { upstream: spec } = routeTo('http://127.0.0.1:1', 60_000);
    const plain = new Target('http://127.0.0.1:1', spec);
    const secure = new Target('https://127.0.0.1:1', spec);
    expect(['GET', 'POST', 'OPTIONS'].map((method) => isForLink(method, plain, spec))).toEqual([
      true,
      true,
      true,
    ]);
    expect(['HEAD', 'CONNECT'].map((method) => isForLink(method, plain, spec))).toEqual([false, false]);
    expect(isForLink('GET', secure, spec)).toBe(false);
    expect(isForLink('GET', plain, { ...spec, http2: true })).toBe(false);
  });
});

/** What becomes of a request; its handler throws where it is told to. */
function outcomeOf(
  { links, target, spec }: Awaited<ReturnType<typeof upstreamWith>>,
  throwsIn?: 'onResponseStart' | 'onResponseEnd',
): Promise<string> {
  return new Promise((resolve) => {
    const mayThrow = (where: string) => {
      if (where === throwsIn) throw new Error(where);
    };
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() {},
      onResponseStart: () => mayThrow('onResponseStart'),
      onResponseData() {},
      onResponseEnd() {
        mayThrow('onResponseEnd');
        resolve('answered');
      },
      onResponseError: (_controller, error) => resolve(`${error}`),
    };
    askOverLink(links, target, spec, { method: 'GET', path: '/', headers: [] }, handler, performance.now());
  });
}

describe('who asked over a link', () => {
  it.each(['onResponseStart', 'onResponseEnd'] as const)(
    'is told of what was thrown in %s',
    async (where) => {
      expect(await outcomeOf(await upstreamWith(2), where)).toBe(`Error: ${where}`);
    },
  );

  it('is told when it takes too long, also where the server was replaced meanwhile', async () => {
    const hanging = await startRawUpstream(() => {});
    const { upstream } = routeTo(hanging.url, 300);
    const { links } = await upstreamWith(2);
    const target = new Target(hanging.url, upstream);
    const outcome = outcomeOf({ links, target, spec: upstream });
    await expect.poll(() => hanging.heads().length).toBe(1);
    await target.close();
    expect(await outcome).toContain('HeadersTimeoutError');
    expect(target.connections).toBe(0);
  });

  it('and leaves before its link is connected, takes nothing with it', async () => {
    const { links, target, spec } = await upstreamWith(2);
    const failed = new Promise((resolve) => {
      const handler = { onResponseError: (_: unknown, error: Error) => resolve(error) };
      const request = { method: 'GET', path: '/', headers: [] };
      const linked = askOverLink(links, target, spec, request, handler, performance.now());
      if (linked === null || linked === 'later') throw new Error('It was not sent');
      expect(target.connections).toBe(1);
      linked.abort(new Error('The client left'));
      expect(target.connections).toBe(0);
    });
    expect(await failed).toMatchObject({ message: 'The client left' });
  });

  it('takes none of the turns in which connections are opened where the server is to be asked otherwise', async () => {
    const { links, target, spec } = await upstreamWith(2);
    links.to(target).answeredOtherwise();
    const request = { method: 'GET', path: '/', headers: [] };
    for (let n = 0; n < 9; n++)
      expect(askOverLink(links, target, spec, request, {}, performance.now())).toBeNull();
    expect(links.to(target).look(9, 0, 0)).toBe('now');
  });
});

describe('a server whose answers are not plain', () => {
  it('gets one connection that is used once, and then those that are kept', async () => {
    const upstream = await startRawUpstream(({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n');
    });
    const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { FAST_LANE: 'off' } });
    const { plaintext } = await gateway.key('large');
    for (let n = 0; n < 6; n++) {
      const answer = await gateway.get('/', plaintext);
      expect([answer.status, await answer.text()]).toEqual([200, 'good']);
    }
    expect(upstream.connections).toHaveLength(2);
  });
});

it('what node:http reads goes over the links that the fast lane uses, too', async () => {
  const upstream = await startRawUpstream(({ socket }) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
  });
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { FAST_LANE: 'off' } });
  const { plaintext } = await gateway.key('large');
  for (const method of ['GET', 'DELETE', 'POST', 'OPTIONS'])
    expect((await gateway.get('/', plaintext, { method })).status).toBe(200);
  expect(upstream.heads()).toHaveLength(4);
  expect(upstream.connections).toHaveLength(1);
});
