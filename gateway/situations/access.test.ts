import { rmSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { encodeBase62 } from '../../shared/base62.ts';
import { mintKey, parseKey } from '../../shared/keys.ts';
import { sqlitePath } from '../../shared/keystore-url.ts';
import { boughtKey, closeAll, closeLater, startTestGateway, startUpstream } from '../../test/gateways.ts';
import { newKeystoreUrl, openTestKeystore, TEST_KEY } from '../../test/keystores.ts';
import { HashQueue } from '../decision/hash-queue.ts';

afterEach(closeAll);

const DAY = 86_400_000;
const problemOf = async (response: Response) => {
  const body = (await response.json()) as Record<string, unknown>;
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  expect(response.headers.get('cache-control')).toBe('no-store');
  expect(body.request_id).toBe(response.headers.get('x-request-id'));
  expect(body.status).toBe(response.status);
  return { status: response.status, code: body.code, body };
};

describe('who gets in', () => {
  it('a good key, in either header', async () => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    expect((await gateway.get('/a', plaintext)).status).toBe(200);
    const bearer = { headers: { Authorization: `Bearer ${plaintext}` } };
    expect((await gateway.get('/b', undefined, bearer)).status).toBe(200);
    expect((await gateway.get('/c', plaintext, bearer)).status).toBe(200);
    expect(upstream.requests.map((request) => request.url)).toEqual(['/a', '/b', '/c']);
  });

  it('not without a key, nor with two', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key();
    const missing = await gateway.get('/');
    expect(missing.headers.get('www-authenticate')).toBe('Bearer realm="api"');
    expect(await problemOf(missing)).toMatchObject({ status: 401, code: 'missing_key' });
    const both = await gateway.get('/', plaintext, { headers: { Authorization: 'Bearer something-else' } });
    expect(await problemOf(both)).toMatchObject({ status: 400, code: 'conflicting_credentials' });
  });

  it.each([
    ['of no form', () => 'hello'],
    ['enormous', () => 'x'.repeat(5000)],
    ['with a typo', (key: string) => `${key.slice(0, -1)}${key.endsWith('x') ? 'y' : 'x'}`],
    ['unknown', () => mintKey('tg', 'test').plaintext],
    ['with the secret of another', (key: string) => withSecretOfAnother(key)],
  ])('not a key that is %s', async (_name, of) => {
    const upstream = await startUpstream();
    const gateway = await startTestGateway({ upstreamUrl: upstream.url });
    const { plaintext } = await gateway.key();
    const response = await gateway.get('/', of(plaintext));
    expect(response.headers.get('www-authenticate')).toBe('Bearer realm="api", error="invalid_token"');
    expect(await problemOf(response)).toMatchObject({ status: 401, code: 'invalid_key' });
    expect(upstream.requests).toEqual([]);
  });

  it('not a key of the other mode, which is named', async () => {
    const gateway = await startTestGateway();
    await gateway.keystore.bindMode('test');
    const response = await gateway.get('/', mintKey('tg', 'live').plaintext);
    const { status, code, body } = await problemOf(response);
    expect([status, code]).toEqual([401, 'wrong_mode']);
    expect(body).toMatchObject({ key_mode: 'live', api_mode: 'test' });
    expect(body.detail).toMatch(/live key.*test API/);
  });

  it('not a key that lies in the keystore of the other mode', async () => {
    const gateway = await startTestGateway();
    const live = await gateway.keystore.createKey({ ...TEST_KEY, mode: 'live' });
    expect((await gateway.get('/', live.plaintext)).status, 'not bound yet').toBe(200);
    await gateway.keystore.bindMode('test');
    const { plaintext } = await gateway.key();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    expect(await problemOf(await gateway.get('/', live.plaintext))).toMatchObject({ code: 'wrong_mode' });
  });

  it('an expired key not from the moment on', async () => {
    let time = Date.UTC(2026, 10, 21);
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext } = await gateway.key('open', { expiresAt: time + 1000 });
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    time += 1000;
    expect(await problemOf(await gateway.get('/', plaintext))).toMatchObject({
      status: 401,
      code: 'expired_key',
    });
  });

  it('a key whose plan is gone gets a 503, and the operator one line', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key('discontinued');
    for (let i = 0; i < 3; i++) {
      expect(await problemOf(await gateway.get('/', plaintext))).toMatchObject({
        status: 503,
        code: 'plan_unavailable',
      });
    }
    expect(gateway.lines.filter((line) => line.includes('not in the plan catalogue'))).toHaveLength(1);
  });

  it('past due within the grace, not after it, and again once it is paid; never after the end', async () => {
    let time = Date.UTC(2026, 10, 21);
    const gateway = await startTestGateway({ now: () => time });
    const { plaintext, sync } = await boughtKey(gateway);
    const get = async () => {
      const response = await gateway.get('/whoami', plaintext);
      return response.ok ? 'in' : (await problemOf(response)).body;
    };
    expect(await get()).toBe('in');
    await sync({ status: 'past_due', fetchedAt: time });
    expect(await get()).toBe('in');
    time += 14 * DAY - 1;
    expect(await get()).toBe('in');
    time += 1;
    expect(await get()).toMatchObject({
      status: 402,
      code: 'payment_past_due',
      manage_url: 'https://buy.example.com/billing/manage',
    });
    await sync({ status: 'active', fetchedAt: time });
    await vi.waitFor(async () => expect(await get()).toBe('in'), 1000);
    await sync({ status: 'canceled', fetchedAt: time + 1 });
    await vi.waitFor(
      async () => expect(await get()).toMatchObject({ status: 402, code: 'subscription_ended' }),
      1000,
    );
  });
});

describe('a change made elsewhere', () => {
  it('a revocation in another connection is in force within a second', async () => {
    const gateway = await startTestGateway();
    const { plaintext, id } = await gateway.key();
    expect((await gateway.get('/', plaintext)).status).toBe(200);
    const billing = closeLater(await openTestKeystore({ url: gateway.keystoreUrl }));
    await billing.revokeKey({ id, reason: 'operator', actor: 't' });
    await vi.waitFor(
      async () =>
        expect(await problemOf(await gateway.get('/', plaintext))).toMatchObject({
          status: 401,
          code: 'revoked_key',
        }),
      { timeout: 1000, interval: 10 },
    );
  });

  it('a change of plan is in force without a restart and keeps what was counted', async () => {
    const gateway = await startTestGateway();
    const { plaintext, sync } = await boughtKey(gateway);
    await sync({ planId: 'small', fetchedAt: 2000 });
    const remaining = async () => {
      const response = await gateway.get('/', plaintext);
      return [response.status, response.headers.get('x-ratelimit-remaining')];
    };
    await vi.waitFor(async () =>
      expect(await (await gateway.get('/whoami', plaintext)).json()).toMatchObject({ plan: { id: 'small' } }),
    );
    for (let i = 4; i >= 0; i--) expect(await remaining()).toEqual([200, String(i)]);
    expect(await remaining()).toEqual([429, '0']);
    await sync({ planId: 'large', fetchedAt: 3000 });
    await vi.waitFor(async () => expect((await gateway.get('/', plaintext)).status).toBe(200), 1000);
    const { limits } = (await (await gateway.get('/quota', plaintext)).json()) as {
      limits: { remaining: number }[];
    };
    expect(limits.map((limit) => limit.remaining)).toEqual([44, 74]);
  });

  it('a key that was unknown works at once when it is made', async () => {
    const gateway = await startTestGateway();
    const billing = closeLater(await openTestKeystore({ url: gateway.keystoreUrl }));
    const unknown = mintKey('tg', 'test');
    expect((await gateway.get('/', unknown.plaintext)).status).toBe(401);
    const made = await billing.createKey(TEST_KEY);
    expect((await gateway.get('/', made.plaintext)).status).toBe(200);
  });

  it('a rotated key shares the budget of the one it replaces', async () => {
    const gateway = await startTestGateway();
    const old = await gateway.key('small');
    for (let i = 0; i < 3; i++) await gateway.get('/', old.plaintext);
    const fresh = await gateway.keystore.rotateKey({ id: old.id, overlapMs: 60_000, actor: 't' });
    if (typeof fresh === 'string') throw new Error(fresh);
    const statuses = [];
    for (const key of [fresh.plaintext, old.plaintext, fresh.plaintext, old.plaintext])
      statuses.push((await gateway.get('/', key)).status);
    expect(statuses).toEqual([200, 200, 429, 429]);
  });
});

describe('a keystore that fails', () => {
  it('is never the customer’s fault: a known key goes on, an unknown one gets 503', async () => {
    const gateway = await startTestGateway();
    const known = await gateway.key();
    const unknown = await gateway.key();
    expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    await gateway.keystore.close();
    const response = await gateway.get('/', unknown.plaintext);
    expect(response.headers.get('retry-after')).toBe('1');
    expect(await problemOf(response)).toMatchObject({ status: 503, code: 'keystore_unavailable' });
    expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    expect((await gateway.get('/health')).status).toBe(200);
    const ready = await gateway.get('/ready');
    expect([ready.status, await ready.json()]).toEqual([200, { status: 'keystore_away' }]);
    expect((await gateway.get('/', 'nonsense')).status, 'a typo is a typo all the same').toBe(401);
  });

  it('a file that is broken under a running gateway', async () => {
    const keystoreUrl = newKeystoreUrl();
    const gateway = await startTestGateway({ keystoreUrl });
    const known = await gateway.key();
    const unknown = await gateway.key();
    expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    const path = sqlitePath(keystoreUrl);
    rmSync(`${path}-shm`, { force: true });
    writeFileSync(path, 'broken '.repeat(10_000));
    writeFileSync(`${path}-wal`, '');
    const statuses = new Set<number>();
    for (let i = 0; i < 20; i++) {
      statuses.add((await gateway.get('/', unknown.plaintext)).status);
      expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    }
    for (const status of statuses) expect([200, 503]).toContain(status);
  });
});

describe('verifying', () => {
  it('a burst of 100 first uses of one key is one Argon2 run', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key();
    const verify = vi.spyOn(gateway.keystore.hasher, 'verify');
    const all = await Promise.all(Array.from({ length: 100 }, () => gateway.get('/', plaintext)));
    expect(all.map((response) => response.status)).toEqual(Array(100).fill(200));
    expect(verify).toHaveBeenCalledTimes(1);
    await gateway.get('/', plaintext);
    expect(verify).toHaveBeenCalledTimes(1);
  });

  it('a wrong secret is refused by its tag, without an Argon2 run', async () => {
    const gateway = await startTestGateway();
    const { plaintext } = await gateway.key();
    const verify = vi.spyOn(gateway.keystore.hasher, 'verify');
    expect((await gateway.get('/', withSecretOfAnother(plaintext))).status).toBe(401);
    expect(verify).not.toHaveBeenCalled();
  });

  it('more first uses than the line holds get a 503 that says when to come back', async () => {
    const gateway = await startTestGateway({ queue: new HashQueue({ concurrency: 1, capacity: 1 }) });
    const keys = await Promise.all(Array.from({ length: 8 }, () => gateway.key()));
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const verify = gateway.keystore.hasher.verify.bind(gateway.keystore.hasher);
    vi.spyOn(gateway.keystore.hasher, 'verify').mockImplementation(async (secret, hash) => {
      await gate;
      return verify(secret, hash);
    });
    let answered = 0;
    const all = keys.map(async (key) => {
      const response = await gateway.get('/', key.plaintext);
      answered++;
      return response;
    });
    const first = await Promise.race(all);
    expect(first.headers.get('retry-after')).toBe('2');
    expect(await problemOf(first)).toMatchObject({ status: 503, code: 'overloaded' });
    await vi.waitFor(() => expect(answered).toBe(6));
    release();
    const statuses = (await Promise.all(all)).map((response) => response.status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(2);
    expect(statuses.filter((status) => status === 503)).toHaveLength(6);
  });

  it('renews a hash made at another cost', async () => {
    const keystoreUrl = newKeystoreUrl();
    const before = await openTestKeystore({
      url: keystoreUrl,
      keyHash: { memoryKib: 1024, passes: 1, lanes: 1 },
    });
    const made = await before.createKey(TEST_KEY);
    await before.close();
    const gateway = await startTestGateway({ keystoreUrl });
    expect((await gateway.get('/', made.plaintext)).status).toBe(200);
    await vi.waitFor(async () =>
      expect((await gateway.keystore.findKeyFacts(made.id))?.hash).toContain('m=4096'),
    );
    expect((await gateway.get('/', made.plaintext)).status).toBe(200);
  });

  it('a flood of wrong keys is limited by address, and good keys of that address go on', async () => {
    const gateway = await startTestGateway({ env: { TRUSTED_PROXIES: '127.0.0.1' } });
    const good = await gateway.key();
    const from = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
    expect((await gateway.get('/', good.plaintext, from('203.0.113.9'))).status).toBe(200);
    const statuses: number[] = [];
    for (let i = 0; i < 32; i++) {
      const wrong = i % 2 ? 'typo' : mintKey('tg', 'test').plaintext;
      statuses.push((await gateway.get('/', wrong, from('203.0.113.9'))).status);
    }
    expect(statuses).toEqual([...Array(30).fill(401), 429, 429]);
    const limited = await gateway.get('/', 'typo', from('203.0.113.9'));
    expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(await problemOf(limited)).toMatchObject({ code: 'too_many_bad_keys' });
    expect((await gateway.get('/', good.plaintext, from('203.0.113.9'))).status).toBe(200);
    expect((await gateway.get('/', 'typo', from('203.0.113.10'))).status).toBe(401);
    expect((await gateway.get('/', undefined, from('203.0.113.9'))).status, 'no key is no guess').toBe(401);
  });
});

describe('a flood of wrong keys', () => {
  it('is slowed down; good keys of the same address work, known or not', async () => {
    const gateway = await startTestGateway();
    const [known, fresh] = [await gateway.key(), await gateway.key()];
    expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    let answered = 0;
    let over = false;
    const begun = performance.now();
    const flood = Array.from({ length: 50 }, async () => {
      while (!over) {
        expect([401, 429]).toContain((await gateway.get('/', 'typo')).status);
        answered++;
      }
    });
    await vi.waitFor(() => expect(answered).toBeGreaterThan(230));
    expect((await gateway.get('/', known.plaintext)).status).toBe(200);
    expect((await gateway.get('/', fresh.plaintext)).status).toBe(200);
    await vi.waitFor(() => expect(answered).toBeGreaterThan(700));
    over = true;
    await Promise.all(flood);
    const seconds = (performance.now() - begun) / 1000;
    // 200 a second of the clock's, a second's wait for each connection beyond that, and what began before 30 were counted.
    const most = 80 + 200 * (Math.ceil(seconds) + 1) + 50 * seconds;
    expect(answered, `in ${seconds} s`).toBeLessThanOrEqual(most);
  });
});

/** A key with the id of this one and a secret of its own; its checksum is right. */
function withSecretOfAnother(plaintext: string): string {
  const { prefix, mode, id } = parseKey(plaintext)!;
  const body = `${prefix}_${mode}_${id}${mintKey(prefix, mode).secret}`;
  return body + encodeBase62(crc32(body), 6);
}
