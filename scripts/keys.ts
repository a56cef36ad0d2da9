import { Command } from 'commander';
import type { KeyRecord } from '../keystore/keystore.ts';
import { accessOf } from '../shared/access.ts';
import { isAddressOrRange } from '../shared/address-ranges.ts';
import type { Config } from '../shared/config.ts';
import type { Mode } from '../shared/keys.ts';
import { planOfKey } from '../shared/plans.ts';
import { quotaSchema, typedWindows, typedWindowsSchema } from '../shared/windows.ts';
import { actor, duration, fail, print, run, table, withKeystore } from './command.ts';

const HOUR_MS = 3_600_000;

const program = new Command('keys').description(
  'Create, find, suspend, revoke and rotate API keys, and set their limits.',
);
program
  .command('create')
  .description('Make a key that no purchase stands behind. It is printed once.')
  .requiredOption('--plan <id>', 'the plan, as plans.yaml names it')
  .option('--name <text>', 'a note to recognise it by')
  .option('--expires <duration>', 'how long it works, such as 12h or 30d', duration)
  .option('--mode <mode>', 'test or live; needed only while the keystore is new')
  .option('--json', 'print JSON')
  .action(create);
program
  .command('list')
  .description('List keys, newest first.')
  .option('--plan <id>', 'only keys of this plan')
  .option('--find <text>', 'only keys with this id, last four characters, e-mail, customer or subscription')
  .option('--limit <n>', 'how many', Number, 50)
  .option('--json', 'print JSON')
  .action(list);
program
  .command('show <id>')
  .description('Show a key: its state, customer, usage and history.')
  .option('--json', 'print JSON')
  .action(show);
program
  .command('revoke <id>')
  .description('Switch a key off for good, everywhere within a second.')
  .option('--leaked', 'note that the key became known to others')
  .option('--json', 'print JSON')
  .action(revoke);
program
  .command('rotate <id>')
  .description('Replace a key by a new one, printed once; both share limits and quota.')
  .option(
    '--overlap <duration>',
    'how long the old one still works, such as 24h or 0h',
    duration,
    24 * HOUR_MS,
  )
  .option('--json', 'print JSON')
  .action(rotate);
program
  .command('allow <id> [addresses...]')
  .description(
    'Limit a key to IP addresses and ranges, everywhere within a second; those named replace the ones before.',
  )
  .option('--any', 'from any address again')
  .option('--json', 'print JSON')
  .action(allow);
program
  .command('suspend <id>')
  .description('Suspend a key, everywhere within a second, until it is resumed.')
  .option('--note <text>', 'why, for yourself')
  .option('--json', 'print JSON')
  .action(suspend);
program
  .command('resume <id>')
  .description('Lift a suspension.')
  .option('--json', 'print JSON')
  .action(resume);
program
  .command('limits <id>')
  .description("Give a key limits of its own in place of the plan's, everywhere within a second.")
  .option('--limits <windows>', 'such as "10 per second, 600 per minute"; the plan\'s when not said')
  .option(
    '--quota <requests>',
    "in what the plan's quota is for, or else in a month; the plan's when not said",
  )
  .option('--plan', "the plan's limits and quota again")
  .option('--json', 'print JSON')
  .action(limits);
program
  .command('note <id> [text]')
  .description('Note on a key what to recognise it by; without a text, nothing.')
  .option('--json', 'print JSON')
  .action(note);
await run(program);

type Json = { json?: boolean };

async function create(
  options: Json & { plan: string; name?: string; expires?: number; mode?: string },
): Promise<void> {
  await withKeystore(async (keystore, config) => {
    if (!config.plans.plan(options.plan)) {
      fail(
        `There is no plan "${options.plan}". Plans: ${config.plans.plans.map((plan) => plan.id).join(', ')}.`,
      );
    }
    if (options.mode && options.mode !== 'test' && options.mode !== 'live') fail('--mode is test or live.');
    const mode = (await keystore.mode()) ?? (options.mode as Mode | undefined) ?? config.stripe?.mode;
    if (!mode) fail('This keystore is new: say --mode test or --mode live.');
    if (options.mode && options.mode !== mode)
      fail(`This keystore is for ${mode} mode. Live and test never mix.`);
    await keystore.bindMode(mode);
    const key = await keystore.createKey({
      mode,
      prefix: config.keyPrefix,
      planId: options.plan,
      name: options.name ?? null,
      expiresAt: options.expires === undefined ? null : Date.now() + options.expires,
      actor,
    });
    if (options.json)
      print({ key: key.plaintext, key_id: key.id, last_four: key.lastFour, plan: options.plan, mode });
    else
      console.log(
        `${key.plaintext}\n\nThis is the only time it is shown. Key id ${key.id}, plan ${options.plan}, ${mode} mode.`,
      );
  });
}

async function list(options: Json & { plan?: string; find?: string; limit: number }): Promise<void> {
  if (!Number.isInteger(options.limit) || options.limit < 1) fail('--limit is a whole number from 1.');
  await withKeystore(async (keystore, config) => {
    const keys = await keystore.listKeys({
      limit: options.limit,
      ...(options.plan ? { planId: options.plan } : {}),
      ...(options.find ? { matching: options.find } : {}),
    });
    if (options.json) print(keys.map((key) => toJson(key, config)));
    else if (keys.length === 0) console.log('No keys.');
    else {
      table(
        ['KEY ID', 'ENDS IN', 'STATE', 'PLAN', 'CUSTOMER', 'THIS MONTH', 'CREATED', 'LIMITS', 'FROM'],
        keys.map((key) => [
          key.id,
          `…${key.lastFour}`,
          stateOf(key, config),
          key.planId,
          key.email ?? key.name ?? '-',
          key.usedThisMonth.toLocaleString('en'),
          day(key.createdAt),
          limitsText(key, config),
          key.allowedAddresses?.join(' ') ?? 'anywhere',
        ]),
      );
    }
  });
}

async function show(id: string, options: Json): Promise<void> {
  await withKeystore(async (keystore, config) => {
    const key = (await keystore.findKey(id)) ?? fail(`There is no key with the id "${id}".`);
    const history = await keystore.keyHistory(id);
    if (options.json) {
      print({
        ...toJson(key, config),
        history: history.map((entry) => ({
          ...entry,
          at: time(entry.at),
          details: entry.details && JSON.parse(entry.details),
        })),
      });
      return;
    }
    const facts = Object.entries(toJson(key, config)).filter(([, value]) => value !== null);
    table(
      [],
      facts.map(([name, value]) => [name.replaceAll('_', ' '), String(value)]),
    );
    console.log('\nHistory:');
    table(
      [],
      history.map((entry) => [time(entry.at), entry.action, entry.actor, entry.details ?? '']),
    );
  });
}

async function revoke(id: string, options: Json & { leaked?: boolean }): Promise<void> {
  await withKeystore(async (keystore) => {
    const outcome = await keystore.revokeKey({ id, reason: options.leaked ? 'leaked' : 'operator', actor });
    if (outcome === 'not_found') fail(`There is no key with the id "${id}".`);
    if (options.json) print({ key_id: id, outcome });
    else
      console.log(outcome === 'revoked' ? `Key ${id} is revoked for good.` : `Key ${id} was revoked before.`);
  });
}

async function rotate(id: string, options: Json & { overlap: number }): Promise<void> {
  await withKeystore(async (keystore) => {
    const fresh = await keystore.rotateKey({ id, overlapMs: options.overlap, actor });
    if (fresh === 'not_found') fail(`There is no key with the id "${id}".`);
    if (fresh === 'replaced') {
      const successor = (await keystore.findKey(id))?.replacedBy;
      fail(`Key ${id} was replaced by ${successor} before. Rotate that one.`);
    }
    if (typeof fresh === 'string') {
      fail(`Key ${id} is ${fresh}, and nothing brings it back. Make a new one with: npm run keys -- create`);
    }
    const ends = fresh.oldKeyEndsAt === null ? null : time(fresh.oldKeyEndsAt);
    if (options.json)
      print({
        key: fresh.plaintext,
        key_id: fresh.id,
        last_four: fresh.lastFour,
        replaces: id,
        old_key_ends_at: ends,
      });
    else {
      console.log(`${fresh.plaintext}\n\nThis is the only time it is shown. Key id ${fresh.id}.`);
      console.log(ends ? `The old key ${id} works until ${ends}.` : `The old key ${id} no longer works.`);
    }
  });
}

async function allow(id: string, addresses: string[], options: Json & { any?: boolean }): Promise<void> {
  if (options.any ? addresses.length > 0 : addresses.length === 0)
    fail('Name the addresses, such as 192.0.2.0/24 2001:db8::/32, or say --any.');
  const wrong = addresses.find((address) => !isAddressOrRange(address));
  if (wrong !== undefined) fail(`"${wrong}" is neither an IP address nor a range such as 192.0.2.0/24.`);
  const allowed = options.any ? null : [...new Set(addresses)];
  await withKeystore(async (keystore) => {
    const outcome = await keystore.allowAddresses({ id, addresses: allowed, actor });
    if (outcome === 'not_found') fail(`There is no key with the id "${id}".`);
    if (options.json) print({ key_id: id, allowed_addresses: allowed });
    else console.log(`Key ${id} may be used from ${allowed?.join(', ') ?? 'any address'}.`);
  });
}

async function suspend(id: string, options: Json & { note?: string }): Promise<void> {
  const { note = null } = options;
  await withKeystore(async (keystore) => {
    const outcome = await keystore.suspendKey({ id, note, actor });
    failUnlessDone(id, outcome);
    if (options.json) print({ key_id: id, outcome });
    else if (outcome === 'already_suspended') console.log(`Key ${id} was suspended before.`);
    else console.log(`Key ${id} is suspended. Lift that with: npm run keys -- resume ${id}`);
  });
}

async function resume(id: string, options: Json): Promise<void> {
  await withKeystore(async (keystore) => {
    const outcome = await keystore.resumeKey({ id, actor });
    failUnlessDone(id, outcome);
    if (options.json) print({ key_id: id, outcome });
    else if (outcome === 'not_suspended') console.log(`Key ${id} was not suspended by you.`);
    else console.log(`Key ${id} is no longer suspended.`);
  });
}

async function limits(
  id: string,
  options: Json & { limits?: string; quota?: string; plan?: boolean },
): Promise<void> {
  const given = options.limits !== undefined || options.quota !== undefined;
  if (given === (options.plan ?? false))
    fail('Say --limits "600 per minute", --quota 50000 or both, or else --plan.');
  const windows = typedWindowsSchema.safeParse(options.limits ?? '');
  if (!windows.success) fail(`--limits ${windows.error.issues[0]?.message}.`);
  const quota = options.quota === undefined ? null : Number(options.quota);
  if (quota !== null && !quotaSchema.safeParse(quota).success) fail('--quota is a whole number from 1.');
  await withKeystore(async (keystore, config) => {
    failUnlessDone(
      id,
      await keystore.overrideLimits({ id, override: { limits: windows.data, quota }, actor }),
    );
    const key = (await keystore.findKey(id)) as KeyRecord;
    if (options.json) print({ key_id: id, ...limitsJson(key, config) });
    else console.log(`Key ${id} has ${limitsText(key, config)}.`);
  });
}

async function note(id: string, text: string | undefined, options: Json): Promise<void> {
  await withKeystore(async (keystore) => {
    const name = text || null;
    failUnlessDone(id, await keystore.nameKey({ id, name, actor }));
    if (options.json) print({ key_id: id, name });
    else console.log(name === null ? `Nothing is noted on key ${id}.` : `Noted on key ${id}: ${name}`);
  });
}

function failUnlessDone(id: string, outcome: string): void {
  if (outcome === 'not_found') fail(`There is no key with the id "${id}".`);
  if (outcome === 'revoked') fail(`Key ${id} is revoked, and nothing brings it back.`);
}

/** The limits that count for a key, and which of them are its own. */
function limitsJson(key: KeyRecord, config: Config) {
  const sold = config.plans.plan(key.planId);
  const plan = sold && planOfKey(sold, key);
  return {
    limits: plan ? typedWindows(plan.limits).join(', ') : null,
    quota: plan?.quota ?? null,
    override_limits: key.override?.limits ? typedWindows(key.override.limits).join(', ') : null,
    override_quota: key.override?.quota ?? null,
  };
}

function limitsText(key: KeyRecord, config: Config): string {
  const { limits, quota } = limitsJson(key, config);
  const own = (is: unknown) => (is ? ' (its own)' : '');
  return [
    limits ? `${limits}${own(key.override?.limits)}` : 'no rate limit',
    quota === null ? 'no quota' : `quota ${quota}${own(key.override?.quota)}`,
  ].join(', ');
}

function stateOf(key: KeyRecord, config: Config): string {
  return accessOf(key, key.subscription, config.plans.plan(key.planId) ?? {}, Date.now()).state;
}

function toJson(key: KeyRecord, config: Config): Record<string, string | number | null> {
  const access = accessOf(key, key.subscription, config.plans.plan(key.planId) ?? {}, Date.now());
  return {
    key_id: key.id,
    last_four: key.lastFour,
    state: access.state,
    reason: access.state === 'active' ? null : access.code,
    mode: key.mode,
    plan: key.planId,
    name: key.name,
    email: key.email,
    customer: key.customerId,
    stripe_customer: key.stripeCustomerId,
    subscription: key.subscriptionId,
    subscription_status: key.subscription?.status ?? null,
    current_period_end: key.subscription?.currentPeriodEnd ? time(key.subscription.currentPeriodEnd) : null,
    purchase: key.purchaseId,
    quantity: key.quantity,
    suspended_at: key.suspendedAt && time(key.suspendedAt),
    suspended_note: key.suspendedNote,
    disputed_since: key.disputedSince && time(key.disputedSince),
    used_this_month: key.usedThisMonth,
    ...limitsJson(key, config),
    allowed_addresses: key.allowedAddresses?.join(' ') ?? null,
    first_used_at: key.firstUsedAt && time(key.firstUsedAt),
    created_at: time(key.createdAt),
    expires_at: key.expiresAt && time(key.expiresAt),
    revoked_at: key.revokedAt && time(key.revokedAt),
    revoked_reason: key.revokedReason,
    replaced_by: key.replacedBy,
    first_key: key.rootId === key.id ? null : key.rootId,
  };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

function day(ms: number): string {
  return time(ms).slice(0, 10);
}
