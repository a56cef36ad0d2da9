import type { RevocationReason, SubscriptionStatus } from '../shared/access.ts';
import { type Mode, mintKey } from '../shared/keys.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { monthStartHour, usageSince } from './usage-ledger.ts';

/** All that bears on a request with this key: what the gateway remembers of it. */
export type KeyFacts = {
  id: string;
  rootId: string;
  mode: Mode;
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

/** A key as the operator sees it: everything but its hash. */
export type KeyRecord = Omit<KeyFacts, 'hash' | 'tag' | 'monthStartHour'> & {
  prefix: string;
  name: string | null;
  email: string | null;
  stripeCustomerId: string | null;
  subscriptionId: string | null;
  purchaseId: string | null;
  createdAt: number;
  revokedReason: RevocationReason | null;
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

/**
 * Replaces a key: the new one is written before the old one ends, in the same transaction, and shares its plan,
 * subscription, limits and quota. The old one works for `overlapMs` more, or not at all with 0.
 *
 * @returns the new key, or why there is none: a key that is revoked or expired cannot be rotated into a working one
 */
export async function rotateKey(
  store: Store,
  input: { id: string; overlapMs: number; actor: string },
): Promise<CreatedKey | 'not_found' | 'revoked' | 'expired'> {
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
    if (key.expires_at !== null && key.expires_at <= step.now) return 'expired';
    await step.trx
      .insertInto('keys')
      .values({ ...key, ...hashed, id: minted.id, last_four: minted.lastFour, created_at: step.now })
      .execute();
    await step.audit({
      actor: input.actor,
      action: 'key.rotated',
      keyId: minted.id,
      customerId: key.customer_id,
      details: { replaces: key.id, overlap_ms: input.overlapMs },
    });
    if (input.overlapMs <= 0) await revokeInStep(step, { id: key.id, reason: 'rotated', actor: input.actor });
    else {
      const end = step.now + input.overlapMs;
      await step.trx
        .updateTable('keys')
        .set({ expires_at: Math.min(end, key.expires_at ?? end) })
        .where('id', '=', key.id)
        .execute();
      await step.trx.updateTable('reveals').set({ sealed: null }).where('key_id', '=', key.id).execute();
      await step.changed([key.id]);
    }
    await step.changed([minted.id]);
    return { plaintext: minted.plaintext, id: minted.id, lastFour: minted.lastFour };
  });
}

/** Stores a hash made at today's cost, unless the key's hash has changed since it was read. */
export async function upgradeKeyHash(
  store: Store,
  input: { id: string; from: string; to: string },
): Promise<void> {
  await store.db
    .updateTable('keys')
    .set({ hash: input.to })
    .where('id', '=', input.id)
    .where('hash', '=', input.from)
    .execute();
}

/**
 * Keys, newest first.
 *
 * @param filter.before only keys older than this one (its `createdAt` and `id`), for paging
 * @param filter.matching only keys whose id, last four characters, email, customer or subscription id equal this
 */
export async function listKeys(
  store: Store,
  filter: {
    limit: number;
    planId?: string;
    matching?: string;
    id?: string;
    before?: { createdAt: number; id: string };
  },
): Promise<KeyRecord[]> {
  let query = store.db
    .selectFrom('keys')
    .leftJoin('subscriptions', 'subscriptions.id', 'keys.subscription_id')
    .leftJoin('customers', 'customers.id', 'keys.customer_id')
    .leftJoin('purchases', 'purchases.key_id', 'keys.root_id')
    .selectAll('keys')
    .select([
      'customers.email',
      'customers.stripe_customer_id',
      'purchases.id as purchase_id',
      'subscriptions.plan_id as subscription_plan_id',
      'subscriptions.status',
      'subscriptions.past_due_since',
      'subscriptions.current_period_end',
    ])
    .orderBy('keys.created_at', 'desc')
    .orderBy('keys.id', 'desc')
    .limit(filter.limit);
  const { id, planId, matching, before } = filter;
  if (id) query = query.where('keys.id', '=', id);
  if (planId)
    query = query.where((where) =>
      where(where.fn.coalesce('subscriptions.plan_id', 'keys.plan_id'), '=', planId),
    );
  if (matching) {
    query = query.where((where) =>
      where.or([
        where('keys.id', '=', matching),
        where('keys.last_four', '=', matching),
        where('customers.email', '=', matching),
        where('customers.stripe_customer_id', '=', matching),
        where('keys.customer_id', '=', matching),
        where('keys.subscription_id', '=', matching),
      ]),
    );
  }
  if (before) {
    query = query.where((where) =>
      where.or([
        where('keys.created_at', '<', before.createdAt),
        where.and([where('keys.created_at', '=', before.createdAt), where('keys.id', '<', before.id)]),
      ]),
    );
  }
  const month = monthStartHour(store.now());
  const rows = await query.execute();
  return Promise.all(
    rows.map(async (row) => ({
      id: row.id,
      rootId: row.root_id,
      mode: row.mode,
      prefix: row.prefix,
      lastFour: row.last_four,
      name: row.name,
      planId: row.subscription_plan_id ?? row.plan_id,
      customerId: row.customer_id,
      email: row.email,
      stripeCustomerId: row.stripe_customer_id,
      subscriptionId: row.subscription_id,
      purchaseId: row.purchase_id,
      subscription: row.status
        ? { status: row.status, pastDueSince: row.past_due_since, currentPeriodEnd: row.current_period_end }
        : null,
      createdAt: row.created_at,
      expiresAt: row.expires_at,
      revokedAt: row.revoked_at,
      revokedReason: row.revoked_reason,
      usedThisMonth: await usageSince(store, row.root_id, month),
    })),
  );
}

/** One key as the operator sees it. */
export async function findKey(store: Store, id: string): Promise<KeyRecord | undefined> {
  return (await listKeys(store, { limit: 1, id }))[0];
}

/** What was done to a key, oldest first. */
export async function keyHistory(
  store: Store,
  id: string,
): Promise<{ at: number; actor: string; action: string; details: string | null }[]> {
  return store.db
    .selectFrom('audit')
    .select(['at', 'actor', 'action', 'details'])
    .where('key_id', '=', id)
    .orderBy('seq')
    .execute();
}
