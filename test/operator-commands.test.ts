import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../scripts/free-port.ts';
import { parseKey } from '../shared/keys.ts';
import { sqlitePath } from '../shared/keystore-url.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { newKeystoreUrl, newSqliteUrl, SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { licencePlansFile } from './licences.ts';
import { runProgram, startProgramUntil } from './processes.ts';
import { rawQuery } from './raw-sql.ts';

describe('npm run keystore', () => {
  it('brings it up to date, backs it up, copies it and restores it', async () => {
    const env = { KEYSTORE_URL: newSqliteUrl(), TOLLGATE_SECRET: SERVER_SECRET };
    const program = (...args: string[]) => runProgram('scripts/keystore.ts', env, args);
    expect(await program('migrate')).toEqual({
      code: 0,
      output: `${sqlitePath(env.KEYSTORE_URL)} is up to date.\n`,
    });
    await runProgram('scripts/keys.ts', env, ['create', '--plan', 'internal', '--mode', 'test']);
    const file = join(temporaryFolder(), 'backup.sqlite');
    expect((await program('backup', file)).output).toContain(`was backed up to ${file}.`);
    expect(await program('backup', file)).toMatchObject({
      code: 1,
      output: expect.stringContaining('exists already'),
    });
    const to = newSqliteUrl();
    const copied = await program('copy', '--to', to);
    expect(copied.output).toMatch(/verifying keys: 1\n[\s\S]*1 key among them; \d+ rows written this time/);
    expect((await program('copy', '--to', to)).output).toContain('Nothing has changed since the last copy');
    expect((await program('copy', '--to', 'mysql://x/y')).output).toContain(
      'begins with sqlite: or postgres://',
    );
    const secret = await program('copy', '--to', 'postgres://me:hunter2hunter2@127.0.0.1/x');
    expect(secret).toMatchObject({ code: 1, output: expect.stringContaining('set KEYSTORE_COPY_TO') });
    expect(secret.output).not.toContain('hunter2');
    const admin = (args: string[]) => runProgram('scripts/admin.ts', env, args, 'correct horse battery\n');
    await admin(['create', 'ada']);
    const withUser = join(temporaryFolder(), 'with-user.sqlite');
    await program('backup', withUser);
    await admin(['disable', 'ada']);
    expect((await program('restore', withUser)).output).toContain(
      'Users of the console disabled since, and still so: ada.\nPasswords and second factors of the console are those of now',
    );
    const restored = await program('restore', file);
    expect(restored.output).toMatch(/is now as it was when .*\nThe keystore that was there is kept at /);
    expect((await runProgram('scripts/keys.ts', env, ['list'])).output).toContain('internal');
  });
});

describe('npm run keys', () => {
  const env = { KEYSTORE_URL: newKeystoreUrl(), TOLLGATE_SECRET: SERVER_SECRET };
  const keys = (...args: string[]) => runProgram('scripts/keys.ts', env, args);
  const json = async (...args: string[]) => JSON.parse((await keys(...args, '--json')).output);

  it('creates, lists, shows, rotates and revokes', async () => {
    expect(await keys('create', '--plan', 'internal')).toMatchObject({
      code: 1,
      output: 'This keystore is new: say --mode test or --mode live.\n',
    });
    const made = await json('create', '--plan', 'internal', '--mode', 'test', '--name', 'nightly job');
    expect(parseKey(made.key)).toMatchObject({ id: made.key_id, mode: 'test' });
    expect((await keys('list')).output).toMatch(
      new RegExp(`KEY ID.*\\n${made.key_id}.*active.*internal.*nightly job`),
    );
    const shown = await json('show', made.key_id);
    expect(shown).toMatchObject({
      state: 'active',
      plan: 'internal',
      name: 'nightly job',
      history: [{ action: 'key.created' }],
    });
    expect(JSON.stringify(shown)).not.toContain(made.key.slice(20));
    expect((await keys('allow', made.key_id)).code).toBe(1);
    expect((await keys('allow', made.key_id, '192.0.2.300')).output).toContain('"192.0.2.300" is neither');
    expect((await keys('allow', made.key_id, '192.0.2.0/24', '2001:db8::/32')).output).toBe(
      `Key ${made.key_id} may be used from 192.0.2.0/24, 2001:db8::/32.\n`,
    );
    const rotated = await json('rotate', made.key_id, '--overlap', '1h');
    expect(await json('show', rotated.key_id)).toMatchObject({
      allowed_addresses: '192.0.2.0/24 2001:db8::/32',
    });
    expect(await json('allow', rotated.key_id, '--any')).toMatchObject({ allowed_addresses: null });
    expect(await json('show', rotated.key_id)).toMatchObject({
      allowed_addresses: null,
      history: [{}, { action: 'key.addresses_allowed', details: { addresses: 'any' } }],
    });
    expect(rotated).toMatchObject({ replaces: made.key_id });
    expect(await json('suspend', made.key_id, '--note', 'asked for a call')).toEqual({
      key_id: made.key_id,
      outcome: 'suspended',
    });
    expect((await keys('suspend', made.key_id)).output).toContain('was suspended before');
    expect(await json('show', rotated.key_id)).toMatchObject({
      state: 'suspended',
      reason: 'suspended_by_seller',
      suspended_note: 'asked for a call',
    });
    expect((await keys('resume', made.key_id)).output).toContain('is no longer suspended');
    expect((await keys('resume', made.key_id)).output).toContain('was not suspended by you');
    expect((await keys('limits', made.key_id)).code).toBe(1);
    expect((await keys('limits', made.key_id, '--limits', '600')).output).toContain('"600 per minute"');
    expect((await keys('limits', made.key_id, '--quota', '0')).output).toContain('whole number from 1');
    expect(
      (await keys('limits', made.key_id, '--limits', '600 per minute,9 per second', '--quota', '50')).output,
    ).toBe(`Key ${made.key_id} has 9 per second, 600 per minute (its own), quota 50 (its own).\n`);
    expect(await json('show', rotated.key_id)).toMatchObject({
      limits: '9 per second, 600 per minute',
      quota: 50,
      override_limits: '9 per second, 600 per minute',
      override_quota: 50,
    });
    expect((await keys('list')).output).toContain('9 per second, 600 per minute (its own)');
    expect(await json('limits', rotated.key_id, '--plan')).toMatchObject({
      override_limits: null,
      override_quota: null,
    });
    expect(await json('note', rotated.key_id, 'for Grace')).toEqual({
      key_id: rotated.key_id,
      name: 'for Grace',
    });
    expect((await keys('note', rotated.key_id)).output).toContain('Nothing is noted');
    expect((await keys('suspend', 'nosuchkey000')).output).toContain('There is no key');
    expect(await json('show', rotated.key_id)).toMatchObject({ first_key: made.key_id });
    expect(await json('show', made.key_id)).toMatchObject({
      replaced_by: rotated.key_id,
      expires_at: rotated.old_key_ends_at,
    });
    expect((await keys('rotate', made.key_id)).output).toBe(
      `Key ${made.key_id} was replaced by ${rotated.key_id} before. Rotate that one.\n`,
    );
    expect(await json('revoke', made.key_id)).toEqual({ key_id: made.key_id, outcome: 'revoked' });
    expect(await json('revoke', made.key_id)).toEqual({ key_id: made.key_id, outcome: 'already_revoked' });
    expect((await keys('rotate', made.key_id)).output).toContain('nothing brings it back');
    expect(
      (await json('list')).map((key: { key_id: string; state: string }) => [key.key_id, key.state]),
    ).toEqual([
      [rotated.key_id, 'active'],
      [made.key_id, 'revoked'],
    ]);
  });

  it.each([
    [
      ['create', '--plan', 'gold', '--mode', 'test'],
      'There is no plan "gold". Plans: free, pro, team, internal.',
    ],
    [['create', '--plan', 'pro', '--mode', 'live'], 'This keystore is for test mode.'],
    [['create', '--plan', 'pro', '--expires', 'soon'], 'Give a duration such as 30m, 12h or 30d.'],
    [['show', 'nosuchkey000'], 'There is no key with the id "nosuchkey000".'],
    [['revoke', 'nosuchkey000'], 'There is no key with the id "nosuchkey000".'],
    [['list', '--limit', 'x'], '--limit is a whole number from 1.'],
  ])('%j: exit 1 with a sentence', async (args, message) => {
    const run = await keys(...args);
    expect(run.code).toBe(1);
    expect(run.output).toContain(message);
    expect(run.output).not.toContain('    at ');
  });
});

describe('npm run admin', () => {
  const env = { KEYSTORE_URL: newKeystoreUrl(), TOLLGATE_SECRET: SERVER_SECRET };
  const admin = (args: string[], input?: string) => runProgram('scripts/admin.ts', env, args, input);

  it('lets somebody in by a password from standard input, lists and disables', async () => {
    expect((await admin(['list'])).output).toBe('No users, so the console is off.\n');
    const made = await admin(['create', 'ada'], 'correct horse battery\n');
    expect(made).toEqual({ code: 0, output: 'ada may sign in at http://127.0.0.1:8011/console\n' });
    expect(await admin(['create', 'ada'], 'another long password')).toMatchObject({ code: 1 });
    expect(await admin(['create', 'eve'], 'short\n')).toEqual({
      code: 1,
      output: 'A password has 12 to 256 characters. Nothing was changed.\n',
    });
    expect((await admin(['create', 'eve'])).code).toBe(1);
    expect((await admin(['create', '<b>'], 'correct horse battery')).output).toContain('A name is up to 40');
    expect((await admin(['create', 'eve', 'a password'], '')).output).toContain('too many arguments');
    expect(JSON.parse((await admin(['list', '--json'])).output)).toEqual([
      { name: 'ada', created_at: expect.any(String), disabled_at: null, second_factor: false },
    ]);
    expect(await admin(['password', 'ada'], 'short\n')).toMatchObject({ code: 1 });
    expect((await admin(['password', 'ada'], 'another long password\n')).output).toBe(
      'ada has another password, and is signed out.\n',
    );
    expect((await admin(['password', 'eve'], 'another long password\n')).code).toBe(1);
    expect((await admin(['remove-second-factor', 'ada'])).output).toBe('ada had no second factor.\n');
    expect((await admin(['remove-second-factor', 'eve'])).code).toBe(1);
    expect((await admin(['disable', 'ada'])).output).toBe('ada is kept out from now on.\n');
    expect((await admin(['disable', 'ada'])).output).toBe('ada was disabled before.\n');
    expect((await admin(['disable', 'eve'])).code).toBe(1);
    expect((await admin(['list'])).output).toMatch(
      /^NAME +CREATED +SECOND FACTOR +DISABLED\nada +20.* +no +20/,
    );
  });
});

describe('npm run licences', () => {
  const signingKeys = join(temporaryFolder(), 'keys.pem');
  const env = {
    KEYSTORE_URL: newKeystoreUrl(),
    TOLLGATE_SECRET: SERVER_SECRET,
    PLANS_FILE: licencePlansFile(),
    LICENSING_KEYS_FILE: signingKeys,
  };
  const licences = (...args: string[]) =>
    runProgram('scripts/licences.ts', { ...env, LICENSING_KEYS_FILE: '' }, args);

  it('makes the key that signs, and sees to the devices of a licence that licensing alone serves', async () => {
    const made = await licences('signing-key');
    expect(made.output).toMatch(/^-----BEGIN PRIVATE KEY-----\n[\s\S]+-----END PRIVATE KEY-----\n$/);
    writeFileSync(signingKeys, made.output);
    const key = JSON.parse(
      (await runProgram('scripts/keys.ts', env, ['create', '--plan', 'pro', '--mode', 'test', '--json']))
        .output,
    ) as { key: string; key_id: string };
    const port = await freePort();
    const server = await startProgramUntil(/Licensing listens on/, 'licensing/main.ts', {
      ...env,
      LICENSING_PORT: String(port),
      LICENSING_INTERNAL_PORT: '0',
    });
    const ask = (name: string, body: object) =>
      fetch(`http://127.0.0.1:${port}/licences/${name}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-API-Key': key.key },
        body: JSON.stringify(body),
      });
    const device = { id: 'device-laptop', name: 'Laptop' };
    expect((await ask('activate', { device })).status).toBe(200);
    expect((await licences('devices', key.key_id)).output).toMatch(
      /^1 of 3 devices \(plan pro\)\.\nDEVICE +NAME +ACTIVATED +LAST SEEN\ndevice-laptop +Laptop +20/,
    );
    expect((await licences('release', key.key_id, device.id)).output).toContain('is released');
    expect((await ask('refresh', { device_id: device.id })).status).toBe(409);
    expect(await licences('release', key.key_id, device.id)).toMatchObject({ code: 1 });
    expect((await licences('activate', key.key_id, device.id)).output).toBe(
      'The device device-laptop is active.\n',
    );
    expect((await ask('refresh', { device_id: device.id })).status).toBe(200);
    expect((await licences('attempts', key.key_id)).output).toMatch(
      /AT .*\n.* refresh +device-laptop +ok +127\.0\.0\.1\n.* refresh +device-laptop +device_not_active .*\n.* activate +device-laptop +ok/,
    );
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${port}/billing/plans`)).status).toBe(404);
    expect(await server.stop()).toBe(0);
    expect(server.output()).not.toContain(key.key);
  });
});

describe('npm run events', () => {
  it('finds what failed for good, shows it without what opens a key, and puts it back to work', async () => {
    const test = await startBillingUnderTest();
    try {
      const events = (...args: string[]) => runProgram('scripts/events.ts', test.environment, args);
      expect((await events('list', '--failed')).output).toBe('No such events.\n');
      const product = await test.stripe.products.create({ name: 'Not mapped' });
      const price = await test.stripe.prices.create({
        product: product.id,
        currency: 'usd',
        unit_amount: 500,
        recurring: { interval: 'month' },
      });
      const session = await test.stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: price.id, quantity: 1 }],
        success_url: `${test.url}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
      });
      await test.pay(session.id);
      await vi.waitFor(async () =>
        expect(await test.keystore.inboxDepth()).toEqual({ pending: 0, failed: 1 }),
      );
      const [failed] = JSON.parse((await events('list', '--failed', '--json')).output);
      expect(failed).toMatchObject({ type: 'checkout.session.completed', outcome: 'unknown_price' });
      expect((await events('list')).output).toMatch(
        new RegExp(
          `${failed.id} +checkout.session.completed .*failed +unknown_price .*${price.id} stands for no plan`,
        ),
      );
      const shown = await events('show', failed.id);
      expect(shown.output).toContain('cs_test_[redacted]');
      expect(shown.output).not.toContain(session.id);
      await test.restart({ STRIPE_PRICE_MAP: `${price.id}:pro` });
      expect(await events('replay', '--all-failed')).toEqual({
        code: 0,
        output: '1 event is back in the inbox.\n',
      });
      await vi.waitFor(async () =>
        expect(await test.keystore.findPurchase(session.id)).toMatchObject({ status: 'provisioned' }),
      );
      expect(await events('replay', '--all-failed')).toMatchObject({ output: 'No event has failed.\n' });
      expect(await events('replay', failed.id)).toMatchObject({
        output: `${failed.id} is back in the inbox.\n`,
      });
      expect(await events('replay', 'evt_nope')).toEqual({
        code: 1,
        output: 'There is no event evt_nope in the inbox.\n',
      });
      expect(await events('replay')).toMatchObject({ code: 1 });
    } finally {
      await test.close();
    }
  });
});

it('npm run events -- replay --all-failed replays each once, also what fails anew at once', async () => {
  const env = { KEYSTORE_URL: newSqliteUrl(), TOLLGATE_SECRET: SERVER_SECRET };
  await runProgram('scripts/keystore.ts', env, ['migrate']);
  await rawQuery(
    env.KEYSTORE_URL,
    `with recursive n(i) as (select 1 union all select i + 1 from n where i < 120)
     insert into events (id, group_key, type, mode, payload, status, attempts, next_attempt_at, created_at, received_at)
     select 'evt_' || i, 'evt_' || i, 'invoice.paid', 'test', '{}', 'failed', 9, 0, 1, i % 7 from n`,
  );
  await rawQuery(
    env.KEYSTORE_URL,
    `create trigger anew after update of status on events when new.status = 'pending'
     begin update events set status = 'failed' where id = new.id; end`,
  );
  expect(await runProgram('scripts/events.ts', env, ['replay', '--all-failed'])).toEqual({
    code: 0,
    output: '120 events are back in the inbox.\n',
  });
  const replays = await rawQuery(
    env.KEYSTORE_URL,
    "select count(*) as n, count(distinct details) as events from audit where action = 'event.replayed'",
  );
  expect(replays).toEqual([{ n: 120, events: 120 }]);
});

describe('npm run payment-link', () => {
  let test: BillingUnderTest;
  beforeAll(async () => {
    test = await startBillingUnderTest();
  });
  afterAll(() => test.close());
  const link = (...args: string[]) => {
    const { STRIPE_PRICE_MAP, ...environment } = test.environment;
    return runProgram('scripts/payment-link.ts', environment, args);
  };

  it('finds or creates product, price and link once, and prints the line to set', async () => {
    const dry = await link('--plan', 'team', '--dry-run');
    expect(dry.code).toBe(0);
    expect(dry.output).toContain('Nothing was changed.');
    expect((await test.stripe.paymentLinks.list()).data).toHaveLength(0);

    const first = JSON.parse((await link('--plan', 'team', '--json')).output);
    expect(first).toMatchObject({
      price: test.prices.team,
      payment_link_was: 'created',
      price_map: `STRIPE_PRICE_MAP=${test.prices.team}:team`,
    });
    expect(JSON.parse((await link('--plan', 'team', '--json')).output)).toEqual({
      ...first,
      payment_link_was: 'found',
    });
    const moved = JSON.parse(
      (await link('--plan', 'team', '--base-url', 'https://buy.example.com/', '--json')).output,
    );
    expect(moved).toMatchObject({ payment_link: first.payment_link, payment_link_was: 'updated' });
    const { data } = await test.stripe.paymentLinks.list();
    expect(data.map((each) => each.after_completion.redirect?.url)).toEqual([
      'https://buy.example.com/billing/success?session_id={CHECKOUT_SESSION_ID}',
    ]);
    expect(
      (await test.stripe.products.list()).data.filter((product) => product.name === 'Team'),
    ).toHaveLength(1);
    expect((await link('--plan', 'team')).output).toMatch(/Payment link {2}http.*\n.*Leads to/);
  });

  it('makes a new price when the old one was archived', async () => {
    const { STRIPE_PRICE_MAP, ...environment } = test.environment;
    const run = async () =>
      JSON.parse(
        (await runProgram('scripts/payment-link.ts', environment, ['--plan', 'free', '--json'])).output,
      );
    const first = await run();
    await test.stripe.prices.update(first.price, { active: false });
    const second = await run();
    expect(second.price).not.toBe(first.price);
    expect((await test.stripe.prices.retrieve(second.price)).active).toBe(true);
    expect(await run()).toMatchObject({ price: second.price, payment_link_was: 'found' });
  });

  it('never makes a live link to an address that only this machine has', async () => {
    const run = await runProgram(
      'scripts/payment-link.ts',
      {
        STRIPE_SECRET_KEY: 'sk_live_0123456789',
        KEYSTORE_URL: `sqlite:${temporaryFolder()}/k.sqlite`,
        TOLLGATE_SECRET: SERVER_SECRET,
      },
      ['--plan', 'pro'],
    );
    expect(run.code).toBe(1);
    expect(run.output).toContain('Give the public https:// address with --base-url.');
  });

  it('leads to a key', async () => {
    const { payment_link } = JSON.parse((await link('--plan', 'pro', '--json')).output);
    const opened = await fetch(payment_link, { redirect: 'manual' });
    const [sessionId = ''] = /cs_test_[0-9A-Za-z]+/.exec(opened.headers.get('location') ?? '') ?? [];
    await test.pay(sessionId);
    const answer = await fetch(`${test.url}/billing/success?session_id=${sessionId}`);
    expect(await answer.json()).toMatchObject({ status: 'ready', plan: 'pro' });
  });

  it.each([
    [['--plan', 'gold'], 'There is no plan "gold"'],
    [['--plan', 'internal'], 'is hidden. Add --allow-hidden'],
    [['--plan', 'internal', '--allow-hidden'], 'has no price'],
    [['--plan', 'pro', '--base-url', 'nowhere'], '--base-url is "nowhere"'],
  ])('%j: exit 1 with a sentence', async (args, message) => {
    const run = await link(...args);
    expect(run.code).toBe(1);
    expect(run.output).toContain(message);
  });
});

describe('npm run demo', () => {
  const leftovers = () => readdirSync(tmpdir()).filter((name) => name.startsWith('tollgate-demo-')).length;

  it('shows the whole journey, exits 0 and cleans up', async () => {
    const before = leftovers();
    const run = await runProgram('scripts/demo.ts');
    expect(run.code, run.output).toBe(0);
    expect(run.output).toContain('429 rate_limited');
    expect(run.output).toContain('402 subscription_ended');
    expect(run.output).toMatch(/✓ All \d+ steps were as they should be/);
    expect(leftovers()).toBe(before);
  });

  it('--keep leaves keystore and logs', async () => {
    const folder = join(temporaryFolder(), 'kept');
    const run = await runProgram('scripts/demo.ts', {}, ['--keep', folder]);
    expect(run.code, run.output).toBe(0);
    for (const name of ['keystore.sqlite', 'tollgate.log'])
      expect(existsSync(join(folder, name)), name).toBe(true);
  });

  it('exits with 1 when a step differs', async () => {
    const run = await runProgram('scripts/demo.ts', { PLANS_FILE: '/nowhere/plans.yaml' });
    expect(run.code).not.toBe(0);
    expect(run.output).toContain('✗');
  });
});
