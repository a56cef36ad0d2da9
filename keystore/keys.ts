import type { RevocationReason } from '../shared/access.ts';
import { type MintedKey, type Mode, mintKey, parseKey } from '../shared/keys.ts';
import { destroySeals } from './destroy-seals.ts';
import { findKeyFacts, type KeyFacts } from './key-facts.ts';
import type { KeyTable } from './schema.ts';
import { type By, inOneStep, inOneStepAside, type Step, type Store } from './store.ts';

export type CreatedKey = { plaintext: string; id: string; lastFour: string };

/**
 * The facts of the key that was presented whole; `undefined` when none like it was ever issued here. Costs an Argon2
 * run for every key whose tag fits: limit how often an address may ask.
 */
export async function authenticateKey(store: Store, presented: string): Promise<KeyFacts | undefined> {
  const parsed = parseKey(presented);
  if (!parsed) return undefined;
  const facts = await findKeyFacts(store, parsed.id);
  if (!facts || facts.prefix !== parsed.prefix || facts.mode !== parsed.mode) return undefined;
  if (!store.hasher.tagMatches(parsed.secret, facts.tag)) return undefined;
  return (await store.hasher.verify(parsed.secret, facts.hash)) ? facts : undefined;
}

/** Notes that the gateway or licensing has seen these keys: from then on they cannot be replaced as never used. */
export async function markKeysUsed(store: Store, ids: readonly string[]): Promise<void> {
  await inOneStepAside(store, async ({ trx, now }) => {
    await trx
      .updateTable('keys')
      .set({ first_used_at: now })
      // One parameter, so that any number of keys is the same statement.
      .where('id', 'in', store.valuesOf(JSON.stringify(ids)))
      .where('first_used_at', 'is', null)
      .execute();
  });
}

/** Writes a key that was just minted. What is not given is as a key made by the operator has it. */
export async function insertKey(
  { trx, now }: Step,
  minted: MintedKey,
  hashed: { hash: string; tag: number },
  more: Pick<KeyTable, 'plan_id'> & Partial<Omit<KeyTable, 'id' | 'hash' | 'tag'>>,
): Promise<void> {
  await trx
    .insertInto('keys')
    .values({
      root_id: minted.id,
      mode: minted.mode,
      prefix: minted.prefix,
      last_four: minted.lastFour,
      customer_id: null,
      subscription_id: null,
      quantity: 1,
      name: null,
      disputed_since: null,
      allowed_addresses: null,
      suspended_at: null,
      suspended_note: null,
      override_limits: null,
      override_quota: null,
      first_used_at: null,
      created_at: now,
      expires_at: null,
      revoked_at: null,
      revoked_reason: null,
      replaced_by: null,
      ...more,
      id: minted.id,
      ...hashed,
    })
    .execute();
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
export async function createKey(store: Store, input: NewKey & By): Promise<CreatedKey> {
  const { actor, address, ...key } = input;
  const [created] = await createKeys(store, { keys: [key], actor, ...(address && { address }) });
  return created as CreatedKey;
}

/** As {@link createKey} for many keys: all of them, in one transaction, or none. Each costs an Argon2 run. */
export async function createKeys(
  store: Store,
  { keys, ...by }: By & { keys: readonly NewKey[] },
): Promise<CreatedKey[]> {
  const made = await Promise.all(
    keys.map(async (key) => {
      const minted = mintKey(key.prefix, key.mode);
      return { key, minted, hashed: await store.hasher.hash(minted.secret) };
    }),
  );
  await inOneStep(store, async (step) => {
    for (const { key, minted, hashed } of made) {
      await insertKey(step, minted, hashed, {
        plan_id: key.planId,
        name: key.name,
        expires_at: key.expiresAt,
      });
      await step.audit({ ...by, action: 'key.created', keyId: minted.id, details: { plan: key.planId } });
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
  input: By & { id: string; reason: RevocationReason },
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

/** As {@link revokeKey}, inside a larger step. */
export async function revokeInStep(
  step: Step,
  { id, reason, ...by }: By & { id: string; reason: RevocationReason },
): Promise<void> {
  await step.trx
    .updateTable('keys')
    .set({ revoked_at: step.now, revoked_reason: reason })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .execute();
  await destroySeals(step.trx, id);
  await step.audit({
    ...by,
    action: 'key.revoked',
    keyId: id,
    details: { reason },
  });
  await step.changed([id]);
}

/**
 * Says from which addresses and ranges a key may be used, everywhere within a second. Its replacements by rotation have
 * the same.
 *
 * @param input.addresses valid ones; `null`: any
 */
export async function allowAddresses(
  store: Store,
  input: By & { id: string; addresses: readonly string[] | null },
): Promise<'allowed' | 'not_found'> {
  const { addresses, id, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    await step.trx
      .updateTable('keys')
      .set({ allowed_addresses: addresses && JSON.stringify(addresses) })
      .where('id', '=', id)
      .execute();
    const before = key.allowed_addresses === null ? 'any' : JSON.parse(key.allowed_addresses);
    await step.audit({
      ...by,
      action: 'key.addresses_allowed',
      keyId: id,
      details: { addresses: addresses ?? 'any', before },
    });
    await step.changed([id]);
    return 'allowed';
  });
}

/** Notes on a key what to recognise it by; `null`: nothing. */
export async function nameKey(
  store: Store,
  input: By & { id: string; name: string | null },
): Promise<'named' | 'not_found'> {
  const { id, name, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    await step.trx.updateTable('keys').set({ name }).where('id', '=', id).execute();
    await step.audit({ ...by, action: 'key.named', keyId: id, details: { from: key.name, to: name } });
    return 'named';
  });
}

/**
 * Says when a key ends, everywhere within a second: sooner, later, or (`null`) not by itself. A replaced key ends as its
 * rotation says.
 *
 * @param input.expiresAt milliseconds since the epoch
 */
export async function expireKeyAt(
  store: Store,
  input: By & { id: string; expiresAt: number | null },
): Promise<'set' | 'not_found' | 'revoked' | 'replaced'> {
  const { id, expiresAt, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    if (key.revoked_at !== null) return 'revoked';
    if (key.replaced_by !== null) return 'replaced';
    await step.trx.updateTable('keys').set({ expires_at: expiresAt }).where('id', '=', id).execute();
    const details = { from: key.expires_at, to: expiresAt };
    await step.audit({ ...by, action: 'key.expiry_set', keyId: id, details });
    await step.changed([id]);
    return 'set';
  });
}

/** A key, inside a step. */
export function keyIn({ trx }: Step, id: string) {
  return trx.selectFrom('keys').selectAll().where('id', '=', id).executeTakeFirst();
}

export type RotatedKey = CreatedKey & {
  /** When the old key ends, milliseconds; `null`: it has ended. */
  oldKeyEndsAt: number | null;
};

/** Why a key has no replacement: one that is revoked, expired or replaced already makes no other. */
export type RotationRefusal = 'not_found' | 'revoked' | 'expired' | 'replaced';

/**
 * Replaces a key: the new one is written before the old one ends, in the same transaction, and shares its plan,
 * subscription, expiry, limits and quota; of a suspended one it is suspended, too. The old one works for `overlapMs` more, or
 * not at all with 0.
 *
 * @returns the new key, or why there is none
 */
export async function rotateKey(
  store: Store,
  input: By & { id: string; overlapMs: number },
): Promise<RotatedKey | RotationRefusal> {
  const successor = await mintSuccessor(store, input.id);
  if (!successor) return 'not_found';
  return inOneStep(store, (step) => rotateInStep(step, successor, { ...input, reason: 'rotated' }));
}

/** A key to follow another one, hashed. `undefined` when there is none to follow. */
export async function mintSuccessor(
  store: Store,
  id: string,
): Promise<{ minted: MintedKey; hashed: { hash: string; tag: number } } | undefined> {
  const old = await store.db
    .selectFrom('keys')
    .select(['prefix', 'mode'])
    .where('id', '=', id)
    .executeTakeFirst();
  if (!old) return undefined;
  const minted = mintKey(old.prefix, old.mode);
  return { minted, hashed: await store.hasher.hash(minted.secret) };
}

/** As {@link rotateKey}, inside a larger step. `reason`: what the old key is revoked for when it ends at once. */
export async function rotateInStep(
  step: Step,
  { minted, hashed }: NonNullable<Awaited<ReturnType<typeof mintSuccessor>>>,
  { id, overlapMs, reason, ...by }: By & { id: string; overlapMs: number; reason: 'rotated' | 'replaced' },
): Promise<RotatedKey | RotationRefusal> {
  const { trx, now } = step;
  const key = await trx.selectFrom('keys').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  if (key.revoked_at !== null) return 'revoked';
  // Before its expiry: what a replaced key expires at is the end of its overlap.
  if (key.replaced_by !== null) return 'replaced';
  if (key.expires_at !== null && key.expires_at <= now) return 'expired';
  await insertKey(step, minted, hashed, {
    ...key,
    last_four: minted.lastFour,
    created_at: now,
    first_used_at: null,
  });
  const overlapEnd = now + overlapMs;
  const oldKeyEndsAt = overlapMs > 0 ? Math.min(overlapEnd, key.expires_at ?? overlapEnd) : null;
  await trx
    .updateTable('keys')
    .set({ replaced_by: minted.id, ...(oldKeyEndsAt === null ? {} : { expires_at: oldKeyEndsAt }) })
    .where('id', '=', key.id)
    .execute();
  await destroySeals(trx, key.id);
  const details = { old_key: key.id, new_key: minted.id, old_key_ends_at: oldKeyEndsAt ?? now };
  for (const keyId of [key.id, minted.id]) {
    await step.audit({
      ...by,
      action: `key.${reason}`,
      keyId,
      customerId: key.customer_id,
      details,
    });
  }
  if (oldKeyEndsAt === null) await revokeInStep(step, { id: key.id, reason, ...by });
  await step.changed([key.id, minted.id]);
  await step.mail('key_rotated', `key:${minted.id}`, minted.id, minted.mode);
  return { plaintext: minted.plaintext, id: minted.id, lastFour: minted.lastFour, oldKeyEndsAt };
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
