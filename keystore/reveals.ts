import { type Purchase, toPurchase } from './purchases.ts';
import { openSeal } from './seal.ts';
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
  };
};

export type Claim =
  | { outcome: 'claimed'; plaintext: string; keyId: string; lastFour: string; purchase: Purchase }
  | { outcome: 'already_claimed' | 'expired' | 'revoked' | 'not_provisioned' | 'not_found' };

/** Where the key of a checkout session stands. Changes nothing. */
export async function findReveal(store: Store, sessionId: string): Promise<RevealState | undefined> {
  const purchase = await purchaseOf(store.db, sessionId);
  if (!purchase) return undefined;
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
      store.serverSecret,
      input.sessionId,
      `${purchase.id} ${row.key_id}`,
    );
    await trx
      .updateTable('reveals')
      .set({ sealed: null, claimed_at: now })
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

/** Destroys every seal whose time is up. Returns how many. */
export async function destroyExpiredReveals(store: Store): Promise<number> {
  return inOneStep(store, async (step) => {
    const destroyed = await step.trx
      .updateTable('reveals')
      .set({ sealed: null })
      .where('expires_at', '<=', step.now)
      .where('sealed', 'is not', null)
      .returning(['key_id', 'purchase_id'])
      .execute();
    for (const { key_id, purchase_id } of destroyed) {
      await step.audit({
        actor: 'billing',
        action: 'reveal.expired',
        keyId: key_id,
        purchaseId: purchase_id,
      });
    }
    return destroyed.length;
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
      'last_four',
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
