import type { RevocationReason, SubscriptionStatus } from '../shared/access.ts';
import { type Mode, mintKey } from '../shared/keys.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { monthStartHour, usageSince } from './usage-ledger.ts';

/** All that bears on a request with this key: what the gateway remembers of it. */
export type KeyFacts = {
  id: string;
  rootId: string;
  mode: Mode;
  prefix: string;
  hash: string;
  tag: number;
  lastFour: string;
  planId: string;
  customerId: string | null;
  expiresAt: number | null;
  revokedAt: number | null;
  subscription: null | {
    status: SubscriptionStatus;
    pastDueSince: number | null;
    currentPeriodEnd: number | null;
  };
  /** Requests of the whole rotation chain in the calendar month (UTC) that starts at `monthStartHour`. */
  usedThisMonth: number;
  monthStartHour: number;
};

export type CreatedKey = { plaintext: string; id: string; lastFour: string };

/** A key with its subscription and usage; `undefined` when there is none of this id. */
export async function findKeyFacts(store: Store, id: string): Promise<KeyFacts | undefined> {
  const row = await store.db
    .selectFrom('keys')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .select([
      'keys.id',
      'keys.root_id',
      'keys.mode',
      'keys.prefix',
      'keys.hash',
      'keys.tag',
      'keys.last_four',
      'keys.plan_id',
      'keys.customer_id',
      'keys.expires_at',
      'keys.revoked_at',
      'subscriptions.plan_id as subscription_plan_id',
      'subscriptions.status',
      'subscriptions.past_due_since',
      'subscriptions.current_period_end',
    ])
    .where('keys.id', '=', id)
    .executeTakeFirst();
  if (!row) return undefined;
  const month = monthStartHour(store.now());
  return {
    id: row.id,
    rootId: row.root_id,
    mode: row.mode,
    prefix: row.prefix,
    hash: row.hash,
    tag: row.tag,
    lastFour: row.last_four,
    planId: row.subscription_plan_id ?? row.plan_id,
    customerId: row.customer_id,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    subscription: row.status
      ? { status: row.status, pastDueSince: row.past_due_since, currentPeriodEnd: row.current_period_end }
      : null,
    usedThisMonth: await usageSince(store, row.root_id, month),
    monthStartHour: month,
  };
}

/** A key to make that no purchase stands behind. `expiresAt` in milliseconds, `null`: never. */
export type NewKey = {
  mode: Mode;
  prefix: string;
  planId: string;
  name: string | null;
  expiresAt: number | null;
};

/** Makes a key that no purchase stands behind. The plaintext is returned and kept nowhere. */
export async function createKey(store: Store, input: NewKey & { actor: string }): Promise<CreatedKey> {
  const [created] = await createKeys(store, { keys: [input], actor: input.actor });
  return created as CreatedKey;
}

/** As {@link createKey} for many keys: all of them, in one transaction, or none. Each costs an Argon2 run. */
export async function createKeys(
  store: Store,
  { keys, actor }: { keys: readonly NewKey[]; actor: string },
): Promise<CreatedKey[]> {
  const made = await Promise.all(
    keys.map(async (key) => {
      const minted = mintKey(key.prefix, key.mode);
      return { key, minted, hashed: await store.hasher.hash(minted.secret) };
    }),
  );
  await inOneStep(store, async (step) => {
    for (const { key, minted, hashed } of made) {
      await step.trx
        .insertInto('keys')
        .values({
          id: minted.id,
          root_id: minted.id,
          mode: key.mode,
          prefix: minted.prefix,
          ...hashed,
          last_four: minted.lastFour,
          plan_id: key.planId,
          customer_id: null,
          subscription_id: null,
          name: key.name,
          created_at: step.now,
          expires_at: key.expiresAt,
          revoked_at: null,
          revoked_reason: null,
          replaced_by: null,
        })
        .execute();
      await step.audit({ actor, action: 'key.created', keyId: minted.id, details: { plan: key.planId } });
      await step.changed([minted.id]);
    }
  });
  return made.map(({ minted }) => ({
    plaintext: minted.plaintext,
    id: minted.id,
    lastFour: minted.lastFour,
  }));
}

/** Switches a key off for good, and destroys its seal if it was never claimed. Nothing brings it back. */
export async function revokeKey(
  store: Store,
  input: { id: string; reason: RevocationReason; actor: string },
): Promise<'revoked' | 'already_revoked' | 'not_found'> {
  return inOneStep(store, async (step) => {
    const key = await step.trx
      .selectFrom('keys')
      .select('revoked_at')
      .where('id', '=', input.id)
      .executeTakeFirst();
    if (!key) return 'not_found';
    if (key.revoked_at !== null) return 'already_revoked';
    await revokeInStep(step, input);
    return 'revoked';
  });
}

async function revokeInStep(
  step: Step,
  input: { id: string; reason: RevocationReason; actor: string },
): Promise<void> {
  await step.trx
    .updateTable('keys')
    .set({ revoked_at: step.now, revoked_reason: input.reason })
    .where('id', '=', input.id)
    .where('revoked_at', 'is', null)
    .execute();
  await step.trx.updateTable('reveals').set({ sealed: null }).where('key_id', '=', input.id).execute();
  await step.audit({
    actor: input.actor,
    action: 'key.revoked',
    keyId: input.id,
    details: { reason: input.reason },
  });
  await step.changed([input.id]);
}

export type RotatedKey = CreatedKey & {
  /** When the old key ends, milliseconds; `null`: it has ended. */
  oldKeyEndsAt: number | null;
};

/**
 * Replaces a key: the new one is written before the old one ends, in the same transaction, and shares its plan,
 * subscription, expiry, limits and quota. The old one works for `overlapMs` more, or not at all with 0.
 *
 * @returns the new key, or why there is none: a key that is revoked, expired or replaced already makes no other
 */
export async function rotateKey(
  store: Store,
  input: { id: string; overlapMs: number; actor: string },
): Promise<RotatedKey | 'not_found' | 'revoked' | 'expired' | 'replaced'> {
  const old = await store.db
    .selectFrom('keys')
    .select(['prefix', 'mode'])
    .where('id', '=', input.id)
    .executeTakeFirst();
  if (!old) return 'not_found';
  const minted = mintKey(old.prefix, old.mode);
  const hashed = await store.hasher.hash(minted.secret);
  return inOneStep(store, async (step) => {
    const key = await step.trx
      .selectFrom('keys')
      .selectAll()
      .where('id', '=', input.id)
      .executeTakeFirstOrThrow();
    if (key.revoked_at !== null) return 'revoked';
    // Before its expiry: what a replaced key expires at is the end of its overlap.
    if (key.replaced_by !== null) return 'replaced';
    if (key.expires_at !== null && key.expires_at <= step.now) return 'expired';
    await step.trx
      .insertInto('keys')
      .values({ ...key, ...hashed, id: minted.id, last_four: minted.lastFour, created_at: step.now })
      .execute();
    const overlapEnd = step.now + input.overlapMs;
    const oldKeyEndsAt = input.overlapMs > 0 ? Math.min(overlapEnd, key.expires_at ?? overlapEnd) : null;
    await step.trx
      .updateTable('keys')
      .set({ replaced_by: minted.id, ...(oldKeyEndsAt === null ? {} : { expires_at: oldKeyEndsAt }) })
      .where('id', '=', key.id)
      .execute();
    await step.trx.updateTable('reveals').set({ sealed: null }).where('key_id', '=', key.id).execute();
    const details = { old_key: key.id, new_key: minted.id, old_key_ends_at: oldKeyEndsAt ?? step.now };
    for (const keyId of [key.id, minted.id]) {
      await step.audit({
        actor: input.actor,
        action: 'key.rotated',
        keyId,
        customerId: key.customer_id,
        details,
      });
    }
    if (oldKeyEndsAt === null)
      await revokeInStep(step, { id: key.id, reason: 'rotated', actor: input.actor });
    await step.changed([key.id, minted.id]);
    return { plaintext: minted.plaintext, id: minted.id, lastFour: minted.lastFour, oldKeyEndsAt };
  });
}

/** Stores a hash made at today's cost, unless the key's hash has changed since it was read. */
export async function upgradeKeyHash(
  store: Store,
  input: { id: string; from: string; to: string },
): Promise<void> {
  await inOneStep(store, async ({ trx }) => {
    await trx
      .updateTable('keys')
      .set({ hash: input.to })
      .where('id', '=', input.id)
      .where('hash', '=', input.from)
      .execute();
  });
}
