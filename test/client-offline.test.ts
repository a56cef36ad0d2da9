import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type PublicJwk, Tollgate } from '../client/src/index.ts';
import { temporaryFolder } from './keystores.ts';
import { type LicenceStandIn, startLicenceStandIn } from './licence-stand-in.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

let seller: LicenceStandIn;
let folder: string;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  seller = await startLicenceStandIn();
  folder = temporaryFolder();
});

afterEach(async () => {
  await seller.close();
  vi.useRealTimers();
});

/** The program, started anew. */
function program(options: { product?: string; pinned?: PublicJwk[]; timeoutMs?: number } = {}): Tollgate {
  return new Tollgate({
    server: seller.url,
    product: options.product ?? 'acme',
    folder,
    ...(options.pinned ? { publicKeys: options.pinned } : {}),
    ...(options.timeoutMs ? { timeoutMs: options.timeoutMs } : {}),
  });
}

async function activated(plan = 'pro') {
  const sold = seller.sell(plan);
  const tollgate = program();
  expect((await tollgate.activate(sold.key)).code).toBe('active');
  return { sold, tollgate, file: join(tollgate.folder, 'licence.json') };
}

async function networkGone(): Promise<void> {
  await seller.close();
}

/** Moves this machine's clock, and the server's unless it is only this machine's that is wrong. */
function later(ms: number): void {
  vi.setSystemTime(Date.now() + ms);
}

function changeFile(file: string, change: (content: { entitlement: Record<string, unknown> }) => void): void {
  const content = JSON.parse(readFileSync(file, 'utf8'));
  change(content);
  writeFileSync(file, JSON.stringify(content));
}

describe('without a network', () => {
  it('a token that is good is active, with its plan and features, and nobody is waited for', async () => {
    await activated();
    await networkGone();
    later(3 * DAY_MS);
    const now = await program().entitlements();
    expect(now).toMatchObject({ entitled: true, code: 'active', plan: 'pro', planName: 'Pro', remedy: null });
    expect(await program().hasFeature('export')).toBe(true);
    expect(await program().feature('projects')).toBe(10);
    expect(await program().hasFeature('toString')).toBe(false);
    expect((await program().requirePlan(['team', 'pro'])).plan).toBe('pro');
    await expect(program().requirePlan('team')).rejects.toMatchObject({ code: 'plan_required' });
  });

  it('a token that is over goes on in grace, and says until when', async () => {
    await activated();
    await networkGone();
    later(8 * DAY_MS);
    const now = await program().entitlements();
    expect(now).toMatchObject({ entitled: true, code: 'grace', plan: 'pro' });
    expect(now.remedy).toContain('Connect to the internet before');
    expect(now.licence?.graceUntil.getTime()).toBeGreaterThan(Date.now());
  });

  it('past grace it is expired, and what is free is left', async () => {
    const { tollgate } = await activated();
    await tollgate.deactivate();
    expect((await program().entitlements()).code).toBe('not_activated');
    await tollgate.activate();
    await networkGone();
    later(10 * DAY_MS + MINUTE_MS);
    const now = await program().entitlements();
    expect(now).toMatchObject({
      entitled: false,
      code: 'expired',
      plan: 'free',
      features: { preview: true },
    });
    await expect(program().requirePlan('pro')).rejects.toMatchObject({ code: 'expired' });
  });

  it('a clock that was moved back is noticed, by more than a few minutes', async () => {
    await activated();
    await networkGone();
    later(2 * DAY_MS);
    await program().entitlements();
    later(-4 * MINUTE_MS);
    expect((await program().entitlements()).code).toBe('active');
    later(-2 * MINUTE_MS);
    expect(await program().entitlements()).toMatchObject({ entitled: false, code: 'clock_moved_back' });
    later(7 * MINUTE_MS);
    expect((await program().entitlements()).code, 'put right again').toBe('active');
  });

  it('a clock before the token was made was moved back', async () => {
    await activated();
    await networkGone();
    later(-6 * MINUTE_MS);
    expect((await program().entitlements()).code).toBe('clock_moved_back');
  });

  it.each<[string, (entitlement: Record<string, unknown>) => void]>([
    ['edited', (entitlement) => Object.assign(entitlement.clock as object, { latest: 1 })],
    ['taken out', (entitlement) => Object.assign(entitlement, { clock: null })],
    ['of no form', (entitlement) => Object.assign(entitlement, { clock: 'yesterday' })],
  ])('a record of the time that was %s counts as a clock that was moved back', async (_how, change) => {
    const { file } = await activated();
    await networkGone();
    changeFile(file, ({ entitlement }) => change(entitlement));
    expect((await program().entitlements()).code).toBe('clock_moved_back');
  });

  it.each<[string, (parts: [string, string, string]) => string[]]>([
    ['claims', ([head, claims, signature]) => [head, edited(claims, { plan: 'team' }), signature]],
    [
      'end',
      ([head, claims, signature]) => [
        head,
        edited(claims, { exp: 9_999_999_999, grace_until: 9_999_999_999 }),
        signature,
      ],
    ],
    ['algorithm', ([head, claims, signature]) => [edited(head, { alg: 'none' }), claims, signature]],
    ['type', ([head, claims, signature]) => [edited(head, { typ: 'JWT' }), claims, signature]],
    ['signature', ([head, claims]) => [head, claims, Buffer.alloc(64).toString('base64url')]],
    ['form', ([head, claims]) => [head, claims]],
  ])('a token whose %s was changed is invalid', async (_what, change) => {
    const { file } = await activated();
    await networkGone();
    changeFile(file, ({ entitlement }) => {
      entitlement.token = change((entitlement.token as string).split('.') as [string, string, string]).join(
        '.',
      );
    });
    expect(await program().entitlements()).toMatchObject({
      entitled: false,
      code: 'token_invalid',
      licence: null,
    });
  });

  it("another device's token is of no use", async () => {
    const { file, sold } = await activated();
    await networkGone();
    changeFile(file, ({ entitlement }) => {
      entitlement.token = seller.token(sold, { id: 'another-device', name: 'elsewhere' });
    });
    expect((await program().entitlements()).code).toBe('wrong_device');
  });

  it("another product's token is of no use", async () => {
    const { file, sold, tollgate } = await activated();
    const device = await tollgate.device();
    await networkGone();
    changeFile(file, ({ entitlement }) => {
      entitlement.token = seller.token(sold, device, { aud: 'other' });
    });
    expect((await program().entitlements()).code).toBe('wrong_product');
  });

  it('a signing key that the seller took back counts no more, once the key set says so', async () => {
    const { tollgate } = await activated();
    seller.rotate({ takeBack: true });
    seller.plans.pro = { ...seller.plans.pro!, devices: 0 };
    expect((await program().entitlements()).code, 'not heard of it yet').toBe('active');
    // The licence cannot be renewed; the key set can be had.
    later(DAY_MS + MINUTE_MS);
    await program().entitlements();
    await vi.waitFor(() =>
      expect(seller.requests.filter((each) => each.includes('jwks')).length).toBeGreaterThan(1),
    );
    await networkGone();
    await vi.waitFor(async () => expect((await program().entitlements()).code).toBe('signing_key_revoked'));
    const pinned = seller.jwks().keys as PublicJwk[];
    expect((await program({ pinned }).entitlements()).code, 'nor for who trusts only the new one').toBe(
      'signing_key_revoked',
    );
    await expect(tollgate.refresh()).rejects.toMatchObject({ code: 'server_unreachable' });
  });

  it('a program that pins its keys believes no key set but the seller’s', async () => {
    const pinned = seller.jwks().keys as PublicJwk[];
    const { file, sold, tollgate } = await activated();
    const impostor = await startLicenceStandIn();
    const device = await tollgate.device();
    await networkGone();
    const keysFile = join(tollgate.folder, 'signing-keys.json');
    const fetched_at = Date.now() - DAY_MS;
    writeFileSync(keysFile, JSON.stringify({ version: 1, fetched_at, said: impostor.jwks() }));
    changeFile(file, ({ entitlement }) => {
      entitlement.token = impostor.token(sold, device, { plan: 'team' });
    });
    await impostor.close();
    expect((await program({ pinned }).entitlements()).entitled).toBe(false);
  });

  it('without the key set nothing can be checked, and it says so', async () => {
    const { tollgate } = await activated();
    await networkGone();
    writeFileSync(join(tollgate.folder, 'signing-keys.json'), 'not JSON');
    expect((await program().entitlements()).code).toBe('signing_key_unknown');
  });

  it('a damaged file is told by its name with a remedy, and is left as it is', async () => {
    const { file } = await activated();
    await networkGone();
    writeFileSync(file, '{"version": 1, "key": "acme_te');
    await expect(program().entitlements()).rejects.toMatchObject({
      code: 'storage_corrupt',
      message: expect.stringContaining(file),
      remedy: expect.stringContaining('set it aside'),
    });
    expect(readFileSync(file, 'utf8')).toBe('{"version": 1, "key": "acme_te');
  });

  it('with nothing at all there is no licence; once the free plan is known, there is a demo', async () => {
    expect(await program().entitlements()).toMatchObject({
      entitled: false,
      code: 'demo',
      plan: 'free',
      features: { preview: true },
    });
    await networkGone();
    expect((await program().entitlements()).code).toBe('demo');
    expect(await program().hasFeature('preview')).toBe(true);
    expect(await program().hasFeature('export')).toBe(false);
    folder = join(temporaryFolder(), 'new');
    mkdirSync(folder);
    expect(await program().entitlements()).toMatchObject({ code: 'no_licence', features: {} });
    expect(await program().hasFeature('constructor')).toBe(false);
    expect('toString' in (await program().entitlements()).features).toBe(false);
  });

  it('a program that pins its keys has the free plan from the server itself, never from a file', async () => {
    const pinned = seller.jwks().keys as PublicJwk[];
    const online = program({ pinned });
    expect(await Promise.all([online.hasFeature('preview'), online.hasFeature('preview')])).toEqual([
      true,
      true,
    ]);
    expect((await online.requirePlan(['free', 'pro'])).code).toBe('demo');
    await networkGone();
    editFreePlan(online.folder, Date.now());
    expect(await online.entitlements(), 'said in this process').toMatchObject({ plan: 'free' });
    expect(await online.hasFeature('export')).toBe(false);
    for (const fetchedAt of [Date.now(), 8e15]) {
      editFreePlan(online.folder, fetchedAt);
      const cheated = program({ pinned });
      expect(await cheated.entitlements()).toMatchObject({ code: 'no_licence', plan: null, features: {} });
      expect(await cheated.hasFeature('export')).toBe(false);
      await expect(cheated.requirePlan('pro')).rejects.toMatchObject({ code: 'no_licence' });
    }
  });

  it('nor does it believe that file once its licence is over', async () => {
    const pinned = seller.jwks().keys as PublicJwk[];
    const { tollgate } = await activated();
    await vi.waitFor(() => expect(existsSync(join(tollgate.folder, 'demo.json'))).toBe(true));
    await networkGone();
    later(11 * DAY_MS);
    editFreePlan(tollgate.folder, Date.now());
    const now = await program({ pinned }).entitlements();
    expect(now).toMatchObject({ code: 'expired', plan: null, features: {} });
    await expect(program({ pinned }).requirePlan('pro')).rejects.toMatchObject({ code: 'expired' });
  });

  it('files of what the server publishes that cannot be read do no harm', async () => {
    const pinned = seller.jwks().keys as PublicJwk[];
    const tollgate = program({ pinned });
    for (const name of ['demo.json', 'signing-keys.json']) {
      mkdirSync(join(tollgate.folder, name), { recursive: true });
    }
    // Vitest fails for a rejection that nobody handles.
    expect((await tollgate.activate(seller.sell('pro').key)).code).toBe('active');
    await networkGone();
    expect((await program({ pinned }).entitlements()).code).toBe('active');
    await tollgate.keep(seller.sell('pro').key);
    expect((await program().entitlements()).code).toBe('not_activated');
  });
});

/** Writes into the file of the free plan what somebody would like to have for nothing. */
function editFreePlan(folder: string, fetched_at: number): void {
  const said = {
    product: 'acme',
    plan: { id: 'pro', name: 'Pro' },
    demo: true,
    features: { export: true },
    locked: [],
  };
  writeFileSync(join(folder, 'demo.json'), JSON.stringify({ version: 1, fetched_at, said }));
}

function edited(part: string, change: object): string {
  const content = JSON.parse(Buffer.from(part, 'base64url').toString());
  return Buffer.from(JSON.stringify({ ...content, ...change })).toString('base64url');
}

describe('while the server answers', () => {
  it('the next token is fetched beside what the program does, once half of this one is over', async () => {
    const { file } = await activated();
    const before = tokenIn(file);
    const asked = () => seller.requests.filter((each) => each === 'POST /licences/refresh').length;
    later(3 * DAY_MS);
    await program().entitlements();
    later(DAY_MS);
    expect((await program().entitlements()).code).toBe('active');
    await vi.waitFor(() => expect(tokenIn(file)).not.toBe(before));
    expect(asked()).toBe(1);
    later(8 * DAY_MS);
    expect((await program().entitlements()).code, 'grace is enough to go on').toBe('grace');
    await vi.waitFor(async () => expect((await program().entitlements()).code).toBe('active'));
    later(11 * DAY_MS);
    expect((await program().entitlements()).code, 'what is over is waited for').toBe('active');
  });

  it('one that hangs holds nobody up who has a good token, and others not for long', async () => {
    await activated();
    seller.break('hang');
    later(5 * DAY_MS);
    expect((await program().entitlements()).code).toBe('active');
    later(9 * DAY_MS);
    expect((await program({ timeoutMs: 200 }).entitlements()).code).toBe('expired');
  });

  it.each([
    ['503', { status: 503, code: 'keystore_unavailable' }],
    ['429', { status: 429, code: 'too_many_requests', retryAfter: 60 }],
    ['500', { status: 500, code: 'internal_error' }],
    ['404', { status: 404, code: 'not_found' }],
    ["a captive portal's 402", 'html'],
    ['a cut connection', 'cut'],
  ] as const)('%s is never taken for "not entitled"', async (_name, how) => {
    const { tollgate } = await activated();
    seller.break(how);
    await expect(tollgate.refresh()).rejects.toThrow();
    expect(await program().entitlements()).toMatchObject({ entitled: true, code: 'active', ended: null });
    later(8 * DAY_MS);
    expect(await program().entitlements()).toMatchObject({ entitled: true, code: 'grace', ended: null });
  });

  it.each([
    ['canceled', { status: 402, code: 'subscription_ended', detail: 'The subscription has ended.' }],
    ['refunded', { status: 401, code: 'revoked_key', detail: 'Refunded.' }],
    ['disputed', { status: 402, code: 'payment_disputed', detail: 'The payment is disputed.' }],
    ['released', { status: 409, code: 'device_not_active', detail: 'This device was released.' }],
  ] as const)(
    'a licence that was %s is not renewed, says why, and ends with its token, without grace',
    async (_how, refusal) => {
      const { sold, tollgate } = await activated();
      sold.refusal = refusal;
      expect(await tollgate.refresh()).toMatchObject({
        entitled: true,
        code: 'active',
        ended: { code: refusal.code },
      });
      await networkGone();
      const now = await program().entitlements();
      expect(now).toMatchObject({ entitled: true, code: 'active' });
      expect(now.detail).toContain(refusal.detail);
      later(7 * DAY_MS + MINUTE_MS);
      expect(await program().entitlements()).toMatchObject({
        entitled: false,
        code: 'ended',
        detail: refusal.detail,
      });
    },
  );

  it('what was paid up again goes on by itself; what has ended for good is not asked for again', async () => {
    const { sold, tollgate } = await activated();
    sold.refusal = { status: 402, code: 'payment_past_due' };
    await tollgate.refresh();
    sold.refusal = null;
    later(61 * MINUTE_MS);
    await program().entitlements();
    await vi.waitFor(async () => expect((await program().entitlements()).ended).toBe(null));
    sold.refusal = { status: 402, code: 'subscription_ended' };
    await tollgate.refresh();
    const asked = seller.requests.length;
    later(8 * DAY_MS);
    expect((await program().entitlements()).code).toBe('ended');
    expect(seller.requests.slice(asked).filter((each) => each.includes('refresh'))).toEqual([]);
  });

  it.each([
    ['suspended by the seller', { status: 403, code: 'suspended_by_seller' }],
    ['without devices for a while', { status: 403, code: 'no_licence' }],
    ['asked about in another mode', { status: 401, code: 'wrong_mode' }],
    ['refused a place', { status: 409, code: 'device_limit' }],
  ] as const)('a licence that was %s goes on by itself once it is good again', async (_how, refusal) => {
    const { sold, tollgate } = await activated();
    sold.refusal = refusal;
    expect((await tollgate.refresh()).ended?.code).toBe(refusal.code);
    later(8 * DAY_MS);
    expect((await program().entitlements()).code).toBe('ended');
    sold.refusal = null;
    later(61 * MINUTE_MS);
    expect(await program().entitlements()).toMatchObject({ code: 'active', ended: null });
  });

  it('a device that was released stays so until it is activated', async () => {
    const { sold, tollgate } = await activated();
    sold.devices.clear();
    expect((await tollgate.refresh()).ended?.code).toBe('device_not_active');
    const asked = seller.requests.length;
    later(8 * DAY_MS);
    expect((await program().entitlements()).code).toBe('ended');
    expect(seller.requests.slice(asked).filter((each) => /refresh|activate/.test(each))).toEqual([]);
    expect((await program().activate()).code).toBe('active');
  });

  it('an address that the key may not be used from costs no grace, and is forgotten elsewhere', async () => {
    const { sold, tollgate } = await activated();
    sold.refusal = { status: 403, code: 'address_not_allowed' };
    await expect(tollgate.refresh()).rejects.toMatchObject({ code: 'address_not_allowed' });
    expect(await program().entitlements()).toMatchObject({ code: 'active', ended: null });
    later(8 * DAY_MS);
    expect(await program().entitlements()).toMatchObject({ code: 'grace', ended: null });
    later(3 * DAY_MS);
    expect(await program().entitlements()).toMatchObject({ code: 'expired', ended: null });
    sold.refusal = null;
    later(2 * MINUTE_MS);
    expect((await program().entitlements()).code).toBe('active');
  });

  it('a floating seat that was lost is taken again with the next token, or as soon as one is free', async () => {
    const { sold, tollgate } = await activated('team');
    const others = () => sold.devices.set('another', { name: null, at: Date.now() });
    later(2 * DAY_MS);
    sold.devices.clear();
    expect(await program().entitlements(), 'free again').toMatchObject({ code: 'active', ended: null });
    sold.devices.clear();
    expect(await tollgate.refresh(), 'by hand').toMatchObject({ code: 'active', ended: null });
    later(2 * DAY_MS);
    sold.devices.clear();
    others();
    expect(await program().entitlements()).toMatchObject({ code: 'ended', ended: { code: 'device_limit' } });
    sold.devices.clear();
    later(2 * MINUTE_MS);
    expect(await program().entitlements()).toMatchObject({ code: 'active', ended: null });
  });

  it('too many activations in a day keep nobody from renewing what is here', async () => {
    const { sold, tollgate } = await activated();
    sold.refusal = { status: 429, code: 'too_many_requests', retryAfter: 86_400 };
    await expect(tollgate.activate()).rejects.toMatchObject({ code: 'too_many_requests' });
    sold.refusal = null;
    later(61 * MINUTE_MS);
    expect((await tollgate.stored()).askAgainAt).toBeLessThan(Date.now());
    sold.refusal = { status: 429, code: 'too_many_requests', retryAfter: 86_400 };
    await expect(tollgate.refresh()).rejects.toMatchObject({ code: 'too_many_requests' });
    expect((await tollgate.stored()).askAgainAt, 'but what renewing was told holds').toBeGreaterThan(
      Date.now() + 23 * 60 * MINUTE_MS,
    );
  });

  it('a file of what the server publishes that is of a time to come is asked for again', async () => {
    const tollgate = program();
    await tollgate.entitlements();
    editFreePlan(tollgate.folder, 8e15);
    const running = program();
    await running.entitlements();
    await vi.waitFor(async () => expect((await running.entitlements()).plan).toBe('free'));
    await expect(running.requirePlan('pro')).rejects.toMatchObject({ code: 'demo' });

    await activated();
    const keysFile = join(tollgate.folder, 'signing-keys.json');
    changeFile(keysFile, (content) => Object.assign(content, { fetched_at: 8e15 }));
    await program().entitlements();
    await vi.waitFor(() =>
      expect(JSON.parse(readFileSync(keysFile, 'utf8')).fetched_at).toBeLessThanOrEqual(Date.now()),
    );
  });

  it("a machine whose clock was far ahead is put right by the server's", async () => {
    seller.setNow(() => Date.UTC(2026, 10, 1));
    vi.setSystemTime(Date.UTC(2036, 0, 1));
    const { tollgate } = await activated();
    expect((await tollgate.entitlements()).code).toBe('active');
    await networkGone();
    later(DAY_MS);
    expect((await program().entitlements()).code).toBe('active');
    later(7 * DAY_MS);
    expect((await program().entitlements()).code).toBe('grace');
  });

  it('a clock that was moved back and put right is forgiven with the next token', async () => {
    const { tollgate } = await activated();
    later(30 * DAY_MS);
    await tollgate.entitlements();
    later(-30 * DAY_MS);
    const now = await program().entitlements();
    expect(now.code).toBe('active');
  });

  it('signing keys are rotated with an overlap, and nobody notices', async () => {
    const { tollgate, file } = await activated();
    seller.rotate();
    expect((await program().entitlements()).code).toBe('active');
    const before = tokenIn(file);
    expect((await tollgate.refresh()).code).toBe('active');
    expect(tokenIn(file)).not.toBe(before);
  });

  it('a token that does not count here does not take the place of one that does', async () => {
    const { tollgate, file } = await activated();
    const before = tokenIn(file);
    const real = program({ pinned: seller.jwks().keys as PublicJwk[] });
    seller.rotate();
    await expect(real.refresh()).rejects.toMatchObject({ code: 'unexpected_answer' });
    expect(tokenIn(file)).toBe(before);
    expect((await tollgate.entitlements()).code).toBe('active');
  });

  it('a device too many is refused with the list of those that are active', async () => {
    const sold = seller.sell('pro');
    sold.devices.set('one', { name: 'desk', at: Date.now() }).set('two', { name: null, at: Date.now() });
    await expect(program().activate(sold.key)).rejects.toMatchObject({
      code: 'device_limit',
      extensions: { limit: 2, devices: [{ id: 'one', name: 'desk' }, { id: 'two' }] },
    });
    expect((await program().entitlements()).code).toBe('not_activated');
    await program().deactivate('one');
    expect((await program().activate()).code).toBe('active');
    expect((await program().devices()).devices.map(({ isThis }) => isThis)).toEqual([false, true]);
  });
});

function tokenIn(file: string): string {
  return JSON.parse(readFileSync(file, 'utf8')).entitlement.token;
}
