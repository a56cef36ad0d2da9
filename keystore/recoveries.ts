import { createHmac, timingSafeEqual } from 'node:crypto';
import { randomBase62 } from '../shared/base62.ts';
import { deriveKey } from './key-hash.ts';
import { mintSuccessor, type RotatedKey, type RotationRefusal, rotateInStep } from './keys.ts';
import type { RecoveryTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';

/** How long a link to replace a lost key works, milliseconds. */
export const RECOVERY_TTL_MS = 3_600_000;
/** A customer gets one mail with such links in this time, milliseconds: asking again and again fills no mailbox. */
const MAIL_EVERY_MS = 600_000;

/** A key that its owner may have lost, and could have replaced. */
export type RecoverableKey = { id: string; lastFour: string; planId: string };

/** Queues a mail with recovery links to every customer of an e-mail address. Returns how many were queued for. */
export async function requestRecovery(store: Store, email: string): Promise<number> {
  const customers = await store.db
    .selectFrom('customers')
    .select(['id', 'mode'])
    .where(({ eb, fn }) => eb(fn<string>('lower', ['email']), '=', email.toLowerCase()))
    .execute();
  if (customers.length === 0) return 0;
  return inOneStep(store, async (step) => {
    const window = Math.floor(step.now / MAIL_EVERY_MS);
    for (const { id, mode } of customers)
      await step.mail('recovery', `customer:${id}`, `${id}_${window}`, mode);
    return customers.length;
  });
}

/** The keys of a customer that can be replaced: neither revoked, expired nor replaced, and their subscription goes on. */
export async function recoverableKeys(store: Store, customerId: string): Promise<RecoverableKey[]> {
  return store.db
    .selectFrom('keys')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .select(({ fn }) => [
      'keys.id',
      'keys.last_four as lastFour',
      fn.coalesce('subscriptions.plan_id', 'keys.plan_id').as('planId'),
    ])
    .where('keys.customer_id', '=', customerId)
    .where('revoked_at', 'is', null)
    .where('replaced_by', 'is', null)
    .where((where) => where.or([where('expires_at', 'is', null), where('expires_at', '>', store.now())]))
    .where((where) =>
      where.or([
        where('subscriptions.status', 'is', null),
        where('subscriptions.status', 'not in', ['canceled', 'incomplete_expired']),
      ]),
    )
    .orderBy('keys.created_at')
    .execute();
}

/** Makes a link's token for a key: signed, good for one use within {@link RECOVERY_TTL_MS}. */
export async function createRecovery(store: Store, keyId: string): Promise<string> {
  return inOneStep(store, async ({ trx, now }) => {
    const row: RecoveryTable = {
      id: randomBase62(20),
      key_id: keyId,
      created_at: now,
      expires_at: now + RECOVERY_TTL_MS,
      used_at: null,
    };
    await trx.insertInto('recoveries').values(row).execute();
    return `${row.id}.${signatureOf(store, row)}`;
  });
}

/** The key that a token replaces; `undefined` when the token is made up, used or expired. */
export async function findRecovery(store: Store, token: string): Promise<RecoverableKey | undefined> {
  const row = await recoveryOf(store, store.db, token, store.now());
  if (!row) return undefined;
  return store.db
    .selectFrom('keys')
    .select(['id', 'last_four as lastFour', 'plan_id as planId'])
    .where('id', '=', row.key_id)
    .executeTakeFirst();
}

/**
 * Replaces the key a token was made for, at once, and uses the token up, in one transaction.
 *
 * @returns the new key, or why there is none
 */
export async function recoverKey(
  store: Store,
  input: { token: string; actor: string },
): Promise<RotatedKey | RotationRefusal | 'link_not_valid'> {
  const before = await recoveryOf(store, store.db, input.token, store.now());
  const successor = before && (await mintSuccessor(store, before.key_id));
  if (!successor) return 'link_not_valid';
  return inOneStep(store, async (step) => {
    const row = await recoveryOf(store, step.trx, input.token, step.now);
    if (!row) return 'link_not_valid';
    const rotated = await rotateInStep(step, successor, {
      id: row.key_id,
      overlapMs: 0,
      reason: 'rotated',
      actor: input.actor,
    });
    if (typeof rotated === 'string') return rotated;
    // Every other link for the same key was for what is gone now.
    await step.trx
      .updateTable('recoveries')
      .set({ used_at: step.now })
      .where('key_id', '=', row.key_id)
      .where('used_at', 'is', null)
      .execute();
    return rotated;
  });
}

/** Forgets links that no longer work. */
export async function forgetRecoveries({ trx, now }: Step): Promise<void> {
  await trx.deleteFrom('recoveries').where('expires_at', '<', now).execute();
}

async function recoveryOf(
  store: Store,
  db: Store['db'],
  token: string,
  now: number,
): Promise<RecoveryTable | undefined> {
  const [id = '', signature = '', ...rest] = token.split('.');
  if (rest.length > 0 || !/^[0-9A-Za-z]{20}$/.test(id)) return undefined;
  const row = await db.selectFrom('recoveries').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row || row.used_at !== null || row.expires_at <= now) return undefined;
  const expected = Buffer.from(signatureOf(store, row));
  const given = Buffer.from(signature);
  return given.length === expected.length && timingSafeEqual(given, expected) ? row : undefined;
}

/** Whoever reads the database finds ids, and cannot make a link of them. */
function signatureOf(store: Store, row: RecoveryTable): string {
  return createHmac('sha256', deriveKey(store.serverSecret, 'recovery'))
    .update(`${row.id} ${row.key_id} ${row.expires_at}`)
    .digest('base64url');
}
