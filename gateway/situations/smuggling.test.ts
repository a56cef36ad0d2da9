import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeAll, sendRaw, startTestGateway, startUpstream, type TestGateway } from '../../test/gateways.ts';
import { HOSTILE_BODIES, HOSTILE_HEADS, UNUSUAL } from '../../test/request-corpus.ts';

// Neither way through the gateway may let through what the other refuses.
describe.each(['off', 'on'])('with the fast lane %s', (FAST_LANE) => {
  /** Requests that reached the upstream, as method and target; `whole`: those with the end of their body. */
  const reached: string[] = [];
  const whole: string[] = [];
  const trailers: string[] = [];
  let gateway: TestGateway;
  let key: string;

  beforeAll(async () => {
    const upstream = await startUpstream((req, res) => {
      const name = `${req.method} ${req.url}`;
      reached.push(name);
      req.on('end', () => {
        whole.push(name);
        trailers.push(...req.rawTrailers);
        res.end('{}');
      });
      req.on('error', () => {});
      req.resume();
    });
    gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { FAST_LANE } });
    key = (await gateway.key()).plaintext;
  });
  afterAll(closeAll);

  /** What the upstream saw of what was sent since the last time; another request shows that nothing is under way any more. */
  async function seen() {
    expect((await gateway.get('/sentinel', key)).status).toBe(200);
    return { reached: reached.splice(0), whole: whole.splice(0), trailers: trailers.splice(0) };
  }

  const smuggled = () => `GET /smuggled HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\n\r\n`;
  const statuses = (received: string) =>
    [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
  const latin1 = (text: string) => Buffer.from(text, 'latin1');

  describe('a head that two readers could take for two different things', () => {
    it.each(HOSTILE_HEADS)('$name', async ({ bytes, status }) => {
      const received = await sendRaw(gateway.port, latin1(bytes(key) + smuggled()));
      expect(statuses(received), received).toEqual([status]);
      expect(received).toMatch(/\r\nConnection: close\r\n/i);
      expect(received).toContain('application/problem+json');
      expect(await seen()).toEqual({ reached: ['GET /sentinel'], whole: ['GET /sentinel'], trailers: [] });
    });
  });

  describe('a body that two readers could take for two different things', () => {
    it.each(HOSTILE_BODIES)('$name', async ({ bytes, status }) => {
      const received = await sendRaw(gateway.port, latin1(bytes(key) + smuggled()));
      expect(statuses(received), received).toEqual([status]);
      expect(received).toMatch(/\r\nConnection: close\r\n/i);
      const { reached, whole } = await seen();
      expect(whole).toEqual(['GET /sentinel']);
      expect(reached).not.toContain('GET /smuggled');
    });

    it('the fault comes late: the upstream is told, and the client that has no answer yet gets one', async () => {
      let sent = false;
      const received = await new Promise<string>((resolve) => {
        void sendRaw(
          gateway.port,
          `POST /late HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`,
          () => false,
          (socket) => {
            const look = setInterval(() => {
              if (sent || !reached.includes('POST /late')) return;
              sent = true;
              clearInterval(look);
              socket.write(`xyz\r\n${smuggled()}`);
            }, 5);
          },
        ).then(resolve);
      });
      expect(statuses(received)).toEqual([400]);
      expect(await seen()).toMatchObject({
        reached: ['POST /late', 'GET /sentinel'],
        whole: ['GET /sentinel'],
      });
    });
  });

  describe('what is unusual and good is forwarded, and the connection goes on', () => {
    it.each(UNUSUAL)('$name', async ({ bytes }) => {
      const received = await sendRaw(
        gateway.port,
        latin1(
          `${bytes(key)}GET /after HTTP/1.1\r\nHost: a\r\nX-API-Key: ${key}\r\nConnection: close\r\n\r\n`,
        ),
      );
      // An HTTP/1.0 connection that is not asked to go on ends after its first answer.
      const goesOn = !/HTTP\/1\.0\r\nX-API-Key/.test(bytes(key));
      expect(statuses(received), received).toEqual(goesOn ? [200, 200] : [200]);
      const { whole, trailers } = await seen();
      const names = whole.map((name) => name.replace(/^[A-Z]+ \/+unusual.*/, 'unusual'));
      expect(names.sort()).toEqual([...(goesOn ? ['GET /after'] : []), 'GET /sentinel', 'unusual']);
      expect(trailers.join('\n')).not.toContain('boss');
    });
  });
});
