import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { crc32 } from 'node:zlib';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { encodeBase62 } from '../../shared/base62.ts';
import { mintKey } from '../../shared/keys.ts';
import { besideKeystore, whenUnlocked } from '../../test/beside-keystore.ts';
import { closeAll, closeLater, sendRaw, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { subscription } from '../../test/keystore-fixtures.ts';

afterEach(closeAll);

/** An upstream that answers each connection with these bytes. */
async function startRawUpstream(answer: Buffer): Promise<string> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({ close: () => new Promise<void>((resolve) => void server.close(() => resolve())) });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The same id and secret under another prefix, with the checksum that belongs to it. */
function withPrefix(key: string, prefix: string): string {
  const body = prefix + key.slice(key.indexOf('_'), -6);
  return body + encodeBase62(crc32(body), 6);
}

describe('a key in another spelling', () => {
  it('another prefix is no key: no Argon2 run, and it counts against its sender', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key();
    const verify = vi.spyOn(gateway.keystore.hasher, 'verify');
    for (let i = 0; i < 10; i++) {
      const answer = await gateway.get('/', withPrefix(plaintext, `x${i}`));
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([401, 'invalid_key']);
    }
    expect(verify).not.toHaveBeenCalled();
    expect((await gateway.get('/', withPrefix(plaintext, 'tg'))).status).toBe(200);
    expect(verify).toHaveBeenCalledTimes(1);
  });

  it('a good key that nobody has used yet works, whatever its neighbours send', async () => {
    const gateway = await startTestGateway();
    for (let i = 0; i < 40; i++) await gateway.get('/', mintKey('tg', 'test').plaintext);
    expect((await gateway.get('/', mintKey('tg', 'test').plaintext)).status).toBe(429);
    const { plaintext } = await gateway.key();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
  });

  it('never goes upstream, in a header of whatever name', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    await gateway.get('/', plaintext, {
      headers: { apikey: plaintext, 'x-debug': `key=${plaintext};`, 'x-other': 'stays' },
    });
    expect(JSON.stringify(upstream.requests[0]?.rawHeaders)).not.toContain(plaintext);
    expect(upstream.requests[0]?.headers['x-other']).toBe('stays');
  });
});

describe('an upstream whose answer cannot be passed on as it is', () => {
  it.each([
    ['Latin-1', Buffer.from('HTTP/1.1 400 Ung\xfcltig\r\nContent-Length: 2\r\n\r\nok', 'latin1')],
    ['UTF-8', Buffer.from('HTTP/1.1 400 D\u2019accord\r\nContent-Length: 2\r\n\r\nok', 'utf8')],
  ])('a reason phrase in %s: the answer arrives, and the exchange is over', async (_name, answer) => {
    const gateway = await startTestGateway({ upstreamUrl: await startRawUpstream(answer) });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/', plaintext);
    expect([response.status, await response.text()]).toEqual([400, 'ok']);
    const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text();
    expect(metrics).toMatch(/requests_in_flight 0/);
  });
});

describe('a request that says two things', () => {
  it.each([
    ['two Host headers', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n', 400],
    [
      'a coding besides chunked',
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n',
      501,
    ],
  ])('%s', async (_name, bytes, status) => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const answer = await sendRaw(gateway.port, bytes.replace('\r\n', `\r\nX-API-Key: ${plaintext}\r\n`));
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(upstream.requests).toEqual([]);
  });

  it('answered before its body was here: what comes after it gets no second answer', async () => {
    const upstream = await startUpstream((_req, res) => res.end('early'));
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const head = `POST / HTTP/1.1\r\nHost: a\r\nX-API-Key: ${plaintext}\r\nTransfer-Encoding: chunked\r\n\r\n`;
    let sent = false;
    const received = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(`${head}3\r\nabc\r\n`));
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1');
        if (!sent && text.includes('early')) {
          sent = true;
          socket.write('this is no chunk\r\n');
        }
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(text));
    });
    expect(received).toContain('early');
    expect(received.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });
});

describe('while another process holds the lock of the keystore', () => {
  it('a revocation it commits is seen within a second, and keys are read', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key();
    const fresh = await gateway.key();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    const other = besideKeystore(gateway.keystoreUrl);
    await whenUnlocked(() => other.exec('begin immediate'));
    // The gateway's own writes queue up behind the lock meanwhile.
    const waiting = gateway.keystore.checkWritable();
    other.prepare("update keys set revoked_at = 1, revoked_reason = 'operator' where id = ?").run(id);
    other.prepare('insert into changes (key_id, at) values (?, 1)').run(id);
    other.exec('commit');
    await whenUnlocked(() => other.exec('begin immediate'));
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(401), {
      timeout: 1000,
      interval: 20,
    });
    expect((await gateway.get('/', fresh.plaintext)).status).toBe(200);
    other.exec('commit');
    await waiting;
    other.close();
  });

  it('an older look at Stripe that had to wait does not overwrite a newer one', async () => {
    const gateway = await startTestGateway();
    const look = (fetchedAt: number, status: 'active' | 'past_due') =>
      gateway.keystore.syncSubscription({
        mode: 'test',
        buyer: { stripeCustomerId: 'cus_1', email: null },
        subscription: subscription({ planId: 'open', status, fetchedAt }),
        actor: 'test',
      });
    const now = Date.now();
    await look(now - 10_000, 'active');
    const other = besideKeystore(gateway.keystoreUrl);
    await whenUnlocked(() => other.exec('begin immediate'));
    const older = look(now - 5000, 'active');
    other
      .prepare("update subscriptions set status = 'past_due', fetched_at = ? where id = 'sub_1'")
      .run(now + 2000);
    other.exec('commit');
    other.close();
    expect(await older).toBe('stale');
  });
});
