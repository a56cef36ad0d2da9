import { createHmac, randomInt, timingSafeEqual } from 'node:crypto';
import { randomBase62 } from '../shared/base62.ts';
import { type MintedKey, type Mode, mintKey } from '../shared/keys.ts';
import { mailbox } from '../shared/mailbox.ts';
import { linkCustomer } from './customers.ts';
import { activateInStep, type Device, type Places } from './devices.ts';
import { deriveKey, type HashedSecret } from './key-hash.ts';
import { insertKey, rotateInStep } from './keys.ts';
import type { TrialTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';

/** How long a trial can begin after it was asked for, milliseconds: as long as its code is good. */
const CODE_TTL_MS = 30 * 60_000;
/** Wrong codes typed in for one trial: each is one of 32^8. */
const CODE_TRIES = 5;
const CODE_LENGTH = 8;
/** How long a trial that no e-mail address was shown for can be asked for again, should its answer have been lost, milliseconds. */
const REPEATABLE_MS = 10 * 60_000;
/** Without those that are taken for others: I, L, O, U (Crockford's base 32). */
const CODE_LETTERS = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** A trial that was asked for. Times are milliseconds since the epoch. */
export type Trial = { id: string; planId: string; email: string | null; expiresAt: number };

/** A trial under way: its key, in plain this once, and the device that it was activated on. */
export type BegunTrial = {
  plaintext: string;
  keyId: string;
  device: Device;
  devices: Device[];
  endsAt: number;
};

type TrialOf = { mode: Mode; planId: string; deviceId: string };

/**
 * Notes that somebody asks for a trial and has to show an e-mail address for it, and queues the mail with the code. Whoever
 * lost the key of a trial that is under way on this device may ask again.
 */
export async function requestTrial(
  store: Store,
  input: TrialOf & { email: string },
): Promise<Trial | 'already_used'> {
  return inOneStep(store, async (step) => {
    const row = newTrial(store, step.now, input);
    // Whether the address had one is told to whoever shows that it is theirs.
    const earlier = await earlierTrial(step, { ...row, email_hash: null });
    if (earlier !== undefined && !isSame(earlier, row)) return 'already_used';
    await step.trx.insertInto('trials').values(row).execute();
    await step.mail('trial_code', `trial:${row.id}`, row.id, row.mode);
    return toTrial(row);
  });
}

/** A trial that was asked for, by its id; `undefined` when there is none, or its time is up. */
export async function findTrial(store: Store, id: string): Promise<Trial | undefined> {
  const row = await store.db.selectFrom('trials').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined || row.expires_at <= store.now() ? undefined : toTrial(row);
}

/** Makes the code that shows whose an e-mail address is, to be sent there. Another one makes those before it void. */
export async function createTrialCode(store: Store, id: string): Promise<string> {
  const code = Array.from({ length: CODE_LENGTH }, () => CODE_LETTERS[randomInt(CODE_LETTERS.length)]).join(
    '',
  );
  await inOneStep(store, async ({ trx }) => {
    await trx
      .updateTable('trials')
      .set({ code_hash: keyedHash(store, 'trial code', `${id} ${code}`), code_tries: 0 })
      .where('id', '=', id)
      .execute();
  });
  return code;
}

type Begin = {
  mode: Mode;
  keyPrefix: string;
  device: { id: string; name: string | null };
  places: Places;
  trialMs: number;
  actor: string;
};

/**
 * Begins a trial that somebody's e-mail address was shown for: makes its key and activates the device, in one
 * transaction. Done again with the same code, it makes a new key in place of that one, which may have been lost on the way.
 */
export async function confirmTrial(
  store: Store,
  input: Begin & { trialId: string; code: string },
): Promise<BegunTrial | 'already_used' | 'code_not_valid' | 'not_found'> {
  const fresh = await mintHashed(store, input);
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const row = await trx.selectFrom('trials').selectAll().where('id', '=', input.trialId).executeTakeFirst();
    if (!row || row.mode !== input.mode || row.expires_at <= now || row.code_tries >= CODE_TRIES)
      return 'not_found';
    // A code belongs to the device that it was asked for from.
    const right =
      row.code_hash !== null &&
      equal(row.code_hash, keyedHash(store, 'trial code', `${row.id} ${plainCode(input.code)}`)) &&
      equal(row.device_hash, keyedHash(store, 'trial device', input.device.id));
    if (!right) {
      await trx
        .updateTable('trials')
        .set({ code_tries: row.code_tries + 1 })
        .where('id', '=', row.id)
        .execute();
      return 'code_not_valid';
    }
    return beginInStep(step, input, row, fresh);
  });
}

/** As {@link confirmTrial} where no e-mail is asked for: the device alone tells who had one. */
export async function beginTrial(
  store: Store,
  input: Begin & { planId: string },
): Promise<BegunTrial | 'already_used'> {
  const fresh = await mintHashed(store, input);
  return inOneStep(store, async (step) => {
    const { mode, planId, device } = input;
    const row = newTrial(store, step.now, { mode, planId, deviceId: device.id, email: null });
    return beginInStep(step, input, row, fresh);
  });
}

/** Forgets trials that were asked for and never began. */
export async function forgetTrials({ trx, now }: Step): Promise<void> {
  await trx.deleteFrom('trials').where('began_at', 'is', null).where('expires_at', '<=', now).execute();
}

type Fresh = { minted: MintedKey; hashed: HashedSecret };

async function mintHashed(store: Store, { keyPrefix, mode }: Begin): Promise<Fresh> {
  const minted = mintKey(keyPrefix, mode);
  return { minted, hashed: await store.hasher.hash(minted.secret) };
}

async function beginInStep(
  step: Step,
  input: Begin,
  row: TrialTable,
  { minted, hashed }: Fresh,
): Promise<BegunTrial | 'already_used'> {
  const { trx, now } = step;
  const { device, places, actor } = input;
  const earlier = await earlierTrial(step, row);
  if (earlier !== undefined) {
    if (!isSame(earlier, row) || earlier.key_id === null) return 'already_used';
    // Nothing but the device's id says who asks here, and that is no secret.
    if (row.email_hash === null && now - (earlier.began_at as number) >= REPEATABLE_MS) return 'already_used';
    // A trial's key is the first of its chain, and one of the chain has no successor yet.
    const key = await trx
      .selectFrom('keys')
      .select(['id', 'root_id', 'expires_at', 'revoked_at'])
      .where('root_id', '=', earlier.key_id)
      .where('replaced_by', 'is', null)
      .executeTakeFirstOrThrow();
    const endsAt = key.expires_at as number;
    if (key.revoked_at !== null || endsAt <= now) return 'already_used';
    // The device before the key: where there is no place for it, whoever has the key keeps it.
    const activation = await activateInStep(step, {
      rootId: key.root_id,
      keyId: minted.id,
      device,
      places,
      actor,
    });
    if (!activation.device) return 'already_used';
    const rotated = await rotateInStep(
      step,
      { minted, hashed },
      { id: key.id, overlapMs: 0, reason: 'replaced', actor },
    );
    if (typeof rotated === 'string') throw new Error(`The key ${key.id} of a trial is ${rotated}`);
    return {
      plaintext: rotated.plaintext,
      keyId: rotated.id,
      device: activation.device,
      devices: activation.devices,
      endsAt,
    };
  }
  const endsAt = now + input.trialMs;
  const customerId =
    row.email === null
      ? null
      : await linkCustomer(step, row.mode, { stripeCustomerId: null, email: row.email });
  await insertKey(step, minted, hashed, {
    plan_id: row.plan_id,
    customer_id: customerId,
    name: 'Trial',
    expires_at: endsAt,
  });
  const begun: TrialTable = { ...row, email: null, key_id: minted.id, began_at: now };
  await trx
    .insertInto('trials')
    .values(begun)
    .onConflict((conflict) => conflict.column('id').doUpdateSet(begun))
    .execute();
  await step.audit({
    actor,
    action: 'trial.began',
    keyId: minted.id,
    customerId,
    details: { plan: row.plan_id },
  });
  await step.changed([minted.id]);
  const activation = await activateInStep(step, {
    rootId: minted.id,
    keyId: minted.id,
    device,
    places,
    actor,
  });
  return {
    plaintext: minted.plaintext,
    keyId: minted.id,
    device: activation.device as Device,
    devices: activation.devices,
    endsAt,
  };
}

/** A trial of any plan that began for this e-mail address or on this device. */
function earlierTrial({ trx }: Step, row: TrialTable): Promise<TrialTable | undefined> {
  return trx
    .selectFrom('trials')
    .selectAll()
    .where('began_at', 'is not', null)
    .where((where) =>
      where.or([
        where('device_hash', '=', row.device_hash),
        ...(row.email_hash === null ? [] : [where('email_hash', '=', row.email_hash)]),
      ]),
    )
    .orderBy('began_at')
    .executeTakeFirst();
}

function isSame(a: TrialTable, b: TrialTable): boolean {
  return a.plan_id === b.plan_id && a.device_hash === b.device_hash && a.email_hash === b.email_hash;
}

function newTrial(store: Store, now: number, input: TrialOf & { email: string | null }): TrialTable {
  const { mode, planId, deviceId, email } = input;
  return {
    id: `tri_${randomBase62(20)}`,
    mode,
    plan_id: planId,
    email,
    email_hash: email && keyedHash(store, 'trial email', mailbox(email)),
    device_hash: keyedHash(store, 'trial device', deviceId),
    code_hash: null,
    code_tries: 0,
    key_id: null,
    created_at: now,
    expires_at: now + CODE_TTL_MS,
    began_at: null,
  };
}

function toTrial(row: TrialTable): Trial {
  return { id: row.id, planId: row.plan_id, email: row.email, expiresAt: row.expires_at };
}

/** As it was sent, however it was typed. */
function plainCode(typed: string): string {
  return typed.toUpperCase().replaceAll(/[\s-]/g, '').replaceAll('O', '0').replaceAll(/[IL]/g, '1');
}

function keyedHash(store: Store, purpose: string, text: string): string {
  return createHmac('sha256', deriveKey(store.serverSecret, purpose)).update(text).digest('hex');
}

function equal(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
