import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, sendRaw, startTestGateway } from '../../test/gateways.ts';
import { type RawUpstream, startRawUpstream, type UpstreamConnection } from '../../test/raw-upstreams.ts';
import { routeTo } from '../routes/route-spec.ts';

afterEach(closeAll);

/** As much as the gateway reads from an upstream at once. */
const READ_BYTES = 64 * 1024;

const answerOf = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const bodyOf = (answer: string) => answer.slice(answer.indexOf('\r\n\r\n') + 4);

/** An answer that has so many bytes in all. */
function answerOfBytes(bytes: number): string {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${READ_BYTES}\r\n\r\n`;
  const length = bytes - head.length;
  return answerOf('a'.repeat(length));
}

/**
 * A gateway before an upstream that may have one connection. The upstream answers a request for `/first` when another one has
 * been sent to the gateway, which so waits for the connection that the first one has.
 */
async function oneConnection(answerFirst: (connection: UpstreamConnection, upstream: RawUpstream) => void) {
  let waits: () => void = () => {};
  const upstream = await startRawUpstream((connection, _nth, all) => {
    if (connection.received.includes(' /first ') && !connection.received.includes(' /second '))
      waits = () => answerFirst(connection, all);
    else connection.socket.write(answerOf('good'));
  });
  const route = routeTo(upstream.url, 5000);
  const gateway = await startTestGateway({
    upstreamUrl: upstream.url,
    routes: [{ ...route, upstream: { ...route.upstream, maxConnections: 1 } }],
  });
  const { plaintext } = await gateway.key('large');
  // The first use of a key takes longer than any other.
  await gateway.get('/whoami', plaintext);
  const ask = (method: string, path: string, end: RegExp) =>
    sendRaw(
      gateway.port,
      `${method} ${path} HTTP/1.1\r\nHost: h\r\nX-API-Key: ${plaintext}\r\n\r\n`,
      (text) => end.test(text),
    );
  return {
    upstream,
    /** What the second one is answered. */
    async secondAfterFirst(method: string): Promise<string> {
      const first = ask('GET', '/first', /a$/);
      await expect.poll(() => upstream.heads().length).toBe(1);
      const second = ask(method, '/second', /\r\n\r\n.{4}|\}$/s);
      await expect
        .poll(async () => /_upstream_waiting\{.*\} (\d+)/.exec(await metricsOf(gateway))?.[1])
        .toBe('1');
      waits();
      expect(bodyOf(await first)).toMatch(/^a+$/);
      return second;
    },
  };
}

async function metricsOf({ internalUrl }: { internalUrl: string }): Promise<string> {
  return (await fetch(`${internalUrl}/metrics`)).text();
}

describe('a connection that comes back from one request while another one waits for it', () => {
  it.each(['GET', 'POST'])(
    '%s is not answered by bytes that came right behind the answer before it',
    async (method) => {
      const { secondAfterFirst } = await oneConnection(({ socket }) => {
        socket.write(answerOfBytes(READ_BYTES) + answerOf('evil'));
      });
      expect(bodyOf(await secondAfterFirst(method))).toBe('good');
    },
  );

  it.each(['GET', 'POST'])(
    '%s is not lost where the server closes after the answer before it',
    async (method) => {
      const { upstream, secondAfterFirst } = await oneConnection(({ socket }) => {
        socket.end(answerOf('aaaa'));
      });
      expect(bodyOf(await secondAfterFirst(method))).toBe('good');
      expect(upstream.heads().filter((head) => head.includes(' /second '))).toHaveLength(1);
    },
  );
});
