import { isClaimToken, openSessionId } from './claim-token.ts';
import { destroySeals } from './destroy-seals.ts';
import { mintSuccessor, rotateInStep } from './keys.ts';
import { type Purchase, toPurchase } from './purchases.ts';
import type { PurchaseTable } from './schema.ts';
import { openSeal, sealKey } from './seal.ts';
import { sessionHash } from './session-hash.ts';
import { inOneStep, type Store } from './store.ts';

/** What a success page may say of a purchase's key without showing it. */
export type RevealState = {
  purchase: Purchase;
  /** `null` before the purchase is provisioned. */
  reveal: null | {
    /** `revoked`: switched off or replaced before it was claimed. */
    state: 'sealed' | 'claimed' | 'expired' | 'revoked';
    keyId: string;
    lastFour: string;
    expiresAt: number;
    claimedAt: number | null;
    /** The actor it was last shown to. */
    claimedBy: string | null;
    /** Until when a new key can be had for this one, should its showing have been lost; `null`: not (any more). */
    replaceableUntil: number | null;
  };
};

/** How long after its showing a key that was never used can be replaced from the same link, milliseconds. */
const REPLACEABLE_MS = 24 * 3_600_000;

export type Claim =
  | { outcome: 'claimed'; plaintext: string; keyId: string; lastFour: string; purchase: Purchase }
  | { outcome: 'already_claimed' | 'expired' | 'revoked' | 'not_provisioned' | 'not_found' };

/** Where the key of a checkout session stands. Changes nothing. */
export async function findReveal(store: Store, sessionId: string): Promise<RevealState | undefined> {
  const purchase = await purchaseOf(store.db, sessionId);
  return purchase && stateOf(store, purchase);
}

/**
 * Where the key stands of a purchase that a program began, by its claim token. Changes nothing.
 *
 * @returns `undefined` for a wrong id and a wrong token alike; `sessionId` is `null` once there is nothing (more) to claim
 */
export async function findRevealForProgram(
  store: Store,
  input: { purchaseId: string; claimToken: string },
): Promise<(RevealState & { sessionId: string | null }) | undefined> {
  const purchase = await store.db
    .selectFrom('purchases')
    .selectAll()
    .where('id', '=', input.purchaseId)
    .executeTakeFirst();
  if (!isClaimToken(purchase, input.claimToken) || !purchase) return undefined;
  const sessionId = openSessionId(store.serverSecret, purchase, input.claimToken);
  return { ...(await stateOf(store, purchase)), sessionId };
}

async function stateOf(store: Store, purchase: PurchaseTable): Promise<RevealState> {
  const row = await revealOf(store.db, purchase.id);
  if (!row) return { purchase: toPurchase(purchase), reveal: null };
  return {
    purchase: toPurchase(purchase),
    reveal: {
      state: revealState(row, store.now()),
      keyId: row.key_id,
      lastFour: row.last_four,
      expiresAt: row.expires_at,
      claimedAt: row.claimed_at,
      claimedBy: row.claimed_by,
      replaceableUntil: (await replaceRefusal(store.db, row, store.now())) ? null : replaceableUntil(row),
    },
  };
}

/**
 * Opens the seal and destroys it in one transaction: of any number of claims, in any number of processes, one gets the
 * plaintext.
 *
 * @throws KeystoreError when nothing could be written; the key then is still there to be claimed
 */
export async function claimReveal(store: Store, input: { sessionId: string; actor: string }): Promise<Claim> {
  return inOneStep<Claim>(store, async (step) => {
    const { trx, now } = step;
    const purchase = await purchaseOf(trx, input.sessionId);
    if (!purchase) return { outcome: 'not_found' };
    const row = await revealOf(trx, purchase.id);
    if (!row) return { outcome: 'not_provisioned' };
    const state = revealState(row, now);
    if (state === 'claimed') return { outcome: 'already_claimed' };
    if (state !== 'sealed' || !row.sealed) return { outcome: state === 'revoked' ? 'revoked' : 'expired' };

    const plaintext = openSeal(
      row.sealed,
      sealKey(store.serverSecret, 'reveal', input.sessionId),
      `${purchase.id} ${row.key_id}`,
    );
    await destroySeals(trx, row.key_id);
    await trx
      .updateTable('reveals')
      .set({ claimed_at: now, claimed_by: input.actor })
      .where('purchase_id', '=', purchase.id)
      .execute();
    await step.audit({
      actor: input.actor,
      action: 'key.claimed',
      keyId: row.key_id,
      customerId: purchase.customer_id,
      purchaseId: purchase.id,
    });
    return {
      outcome: 'claimed',
      plaintext,
      keyId: row.key_id,
      lastFour: row.last_four,
      purchase: toPurchase(purchase),
    };
  });
}

export type Replacement =
  | { outcome: 'replaced'; plaintext: string; keyId: string; lastFour: string; purchase: Purchase }
  | { outcome: 'not_found' | 'not_claimed' | 'used' | 'too_late' | 'superseded' };

/**
 * Makes a new key for one that was shown and never used: its showing may have been lost on the way. The old key is
 * revoked in the same transaction. After the first use, or 24 hours, never.
 *
 * @param input.keyId the key to replace, as the page named it: a repeated request replaces nothing twice
 */
export async function replaceUnused(
  store: Store,
  input: { sessionId: string; keyId: string; actor: string },
): Promise<Replacement> {
  const successor = await mintSuccessor(store, input.keyId);
  if (!successor) return { outcome: 'not_found' };
  return inOneStep<Replacement>(store, async (step) => {
    const { trx, now } = step;
    const purchase = await purchaseOf(trx, input.sessionId);
    const row = purchase && (await revealOf(trx, purchase.id));
    if (!row) return { outcome: 'not_found' };
    if (row.key_id !== input.keyId) return { outcome: 'superseded' };
    const refusal = await replaceRefusal(trx, row, now);
    if (refusal) return { outcome: refusal };
    const rotated = await rotateInStep(step, successor, {
      id: row.key_id,
      overlapMs: 0,
      reason: 'replaced',
      actor: input.actor,
    });
    if (typeof rotated === 'string') return { outcome: 'superseded' };
    await trx
      .updateTable('reveals')
      .set({ key_id: rotated.id, claimed_by: input.actor })
      .where('purchase_id', '=', purchase.id)
      .execute();
    return {
      outcome: 'replaced',
      plaintext: rotated.plaintext,
      keyId: rotated.id,
      lastFour: rotated.lastFour,
      purchase: toPurchase(purchase),
    };
  });
}

function replaceableUntil(row: RevealRow): number {
  return (row.claimed_at ?? 0) + REPLACEABLE_MS;
}

/** Why a key cannot be replaced as never used; `null`: it can. */
async function replaceRefusal(
  db: Store['db'],
  row: RevealRow,
  now: number,
): Promise<'not_claimed' | 'used' | 'too_late' | 'superseded' | null> {
  if (row.claimed_at === null) return 'not_claimed';
  if (row.replaced_by !== null || row.revoked_at !== null) return 'superseded';
  if (now >= replaceableUntil(row)) return 'too_late';
  const used = await db
    .selectFrom('keys')
    .leftJoin('usage', 'usage.key_id', 'keys.id')
    .select('keys.id')
    .where('root_id', '=', row.root_id)
    .where((where) => where.or([where('first_used_at', 'is not', null), where('usage.hour', 'is not', null)]))
    .limit(1)
    .executeTakeFirst();
  return used ? 'used' : null;
}

/** Destroys every seal whose time is up. Returns how many. */
export async function destroyExpiredReveals(store: Store): Promise<number> {
  return inOneStep(store, async (step) => {
    const expired = await step.trx
      .selectFrom('reveals')
      .select(['key_id', 'purchase_id'])
      .where('expires_at', '<=', step.now)
      .where('sealed', 'is not', null)
      .execute();
    for (const { key_id, purchase_id } of expired) {
      await destroySeals(step.trx, key_id);
      await step.audit({
        actor: 'billing',
        action: 'reveal.expired',
        keyId: key_id,
        purchaseId: purchase_id,
      });
    }
    return expired.length;
  });
}

function purchaseOf(db: Store['db'], sessionId: string) {
  return db
    .selectFrom('purchases')
    .selectAll()
    .where('session_hash', '=', sessionHash(sessionId))
    .executeTakeFirst();
}

function revealOf(db: Store['db'], purchaseId: string) {
  return db
    .selectFrom('reveals')
    .innerJoin('keys', 'keys.id', 'reveals.key_id')
    .select([
      'reveals.key_id',
      'sealed',
      'reveals.expires_at',
      'claimed_at',
      'claimed_by',
      'last_four',
      'root_id',
      'revoked_at',
      'replaced_by',
    ])
    .where('purchase_id', '=', purchaseId)
    .executeTakeFirst();
}

type RevealRow = NonNullable<Awaited<ReturnType<typeof revealOf>>>;

function revealState(row: RevealRow, now: number): 'sealed' | 'claimed' | 'expired' | 'revoked' {
  if (row.claimed_at !== null) return 'claimed';
  if (row.revoked_at !== null || row.replaced_by !== null) return 'revoked';
  return row.sealed === null || row.expires_at <= now ? 'expired' : 'sealed';
}
