import { type Mode, mintKey } from '../shared/keys.ts';
import { claimColumns } from './claim-token.ts';
import { type Buyer, linkCustomer } from './customers.ts';
import { closeSessionEvents, reopenCustomerEvents } from './event-inbox.ts';
import { insertKey } from './keys.ts';
import { applyPayments, type RulesOf } from './payments.ts';
import { isPurchaseId, newPurchaseId } from './purchase-names.ts';
import type { PurchaseStatus, PurchaseTable } from './schema.ts';
import { seal, sealKey } from './seal.ts';
import { sessionHash } from './session-hash.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { type SubscriptionSnapshot, writeSubscription } from './subscriptions.ts';

/** A purchase as the rest of the project sees it. Never carries the session id. */
export type Purchase = {
  id: string;
  mode: Mode;
  planId: string | null;
  /** Whether a program began it, which has a claim token. */
  byProgram: boolean;
  status: PurchaseStatus;
  failure: string | null;
  keyId: string | null;
  customerId: string | null;
  subscriptionId: string | null;
  paymentIntentId: string | null;
  createdAt: number;
  provisionedAt: number | null;
};

export type ProvisionPurchase = {
  /** The checkout session's id. Used to seal the key, kept only as a hash. */
  sessionId: string;
  /** The id this purchase was opened under, if it was opened by us. */
  purchaseId?: string;
  mode: Mode;
  planId: string;
  priceId: string;
  keyPrefix: string;
  buyer: Buyer;
  subscription: SubscriptionSnapshot | null;
  /** Of a one-time purchase; `null` for a subscription and where nothing was to pay. */
  paymentIntentId: string | null;
  quantity: number;
  /** How long a one-time purchase lasts, milliseconds from now; `null`: for ever, or as its subscription does. */
  accessMs: number | null;
  /** What plans do about refunds and disputes: one may have come before the purchase was seen. */
  rulesOf: RulesOf;
  amountTotal: number | null;
  currency: string | null;
  actor: string;
  /** Of the request that it came with, where one is known: noted in the audit log. */
  requestId?: string;
};

/** A purchase by its own id. */
export async function findPurchaseById(store: Store, id: string): Promise<Purchase | undefined> {
  const row = await store.db.selectFrom('purchases').selectAll().where('id', '=', id).executeTakeFirst();
  return row && toPurchase(row);
}

/** The purchase that a checkout session belongs to. */
export async function findPurchase(store: Store, sessionId: string): Promise<Purchase | undefined> {
  const row = await store.db
    .selectFrom('purchases')
    .selectAll()
    .where('session_hash', '=', sessionHash(sessionId))
    .executeTakeFirst();
  return row && toPurchase(row);
}

/**
 * Notes a checkout that was opened and is not paid yet. Does nothing when the session is known already, so it may
 * arrive after the payment.
 *
 * @param input.claimToken of the program that began it
 */
export async function recordPurchase(
  store: Store,
  input: {
    sessionId: string;
    purchaseId?: string;
    mode: Mode;
    planId: string | null;
    priceId: string | null;
    claimToken?: string;
  },
): Promise<Purchase> {
  return inOneStep(store, async (step) => {
    const { trx } = step;
    const { sessionId, claimToken } = input;
    await trx
      .insertInto('purchases')
      .values({ ...(await newPurchase(step, input)), plan_id: input.planId, price_id: input.priceId })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    const row = await trx
      .selectFrom('purchases')
      .selectAll()
      .where('session_hash', '=', sessionHash(sessionId))
      .executeTakeFirstOrThrow();
    if (claimToken === undefined || row.claim_hash !== null) return toPurchase(row);
    // The row may be that of a look at the session, which knew of no program; and the checkout may have ended since.
    const claim = claimColumns(store.serverSecret, { purchaseId: row.id, sessionId, claimToken });
    if (row.status !== 'pending') claim.session_sealed = null;
    await trx.updateTable('purchases').set(claim).where('id', '=', row.id).execute();
    return toPurchase({ ...row, ...claim });
  });
}

/**
 * Ends a purchase that came to nothing (payment failed, checkout expired), or says why a paid one waits. A provisioned
 * purchase is never touched: what ends access after that is its subscription or a revocation.
 */
export async function endPurchase(
  store: Store,
  input: {
    sessionId: string;
    mode: Mode;
    status: 'pending' | 'paid' | 'failed' | 'canceled';
    failure: string;
    actor: string;
  },
): Promise<Purchase> {
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const hash = sessionHash(input.sessionId);
    await trx
      .insertInto('purchases')
      .values(await newPurchase(step, input))
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    const changed = await trx
      .updateTable('purchases')
      .set({
        status: input.status,
        failure: input.failure,
        updated_at: now,
        // One that failed may still be paid for in another way, and then its program claims the key.
        ...(input.status === 'canceled' ? { session_sealed: null } : {}),
      })
      .where('session_hash', '=', hash)
      .where('status', '!=', 'provisioned')
      .where((where) => where.or([where('status', '!=', input.status), where('failure', 'is', null)]))
      .returning('id')
      .executeTakeFirst();
    if (changed) {
      await step.audit({
        actor: input.actor,
        action: `purchase.${input.status}`,
        purchaseId: changed.id,
        details: { reason: input.failure },
      });
    }
    const row = await trx
      .selectFrom('purchases')
      .selectAll()
      .where('session_hash', '=', hash)
      .executeTakeFirstOrThrow();
    return toPurchase(row);
  });
}

/**
 * Turns a paid checkout session into a key: customer, subscription, purchase, key and sealed reveal, all in one
 * transaction. However often and from however many processes it is called, one session makes one key.
 *
 * @returns the purchase, and whether this call made its key
 * @throws KeystoreError when nothing could be written; nothing then was
 */
export async function provisionPurchase(
  store: Store,
  input: ProvisionPurchase,
): Promise<{ purchase: Purchase; outcome: 'provisioned' | 'already_provisioned' }> {
  const before = await findPurchase(store, input.sessionId);
  // Argon2 runs outside the transaction: it takes milliseconds, and the write lock is everyone's.
  const minted = before?.status === 'provisioned' ? null : mintKey(input.keyPrefix, input.mode);
  const hashed = minted && (await store.hasher.hash(minted.secret));

  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const hash = sessionHash(input.sessionId);
    const existing = await trx
      .selectFrom('purchases')
      .selectAll()
      .where('session_hash', '=', hash)
      .executeTakeFirst();
    await closeSessionEvents(step, hash);
    if (existing?.status === 'provisioned') {
      // Somebody else made the key, perhaps from an older look: what this one saw is not thrown away.
      if (input.subscription && existing.customer_id)
        await writeSubscription(step, input.mode, existing.customer_id, input.subscription, input.actor);
      return { purchase: toPurchase(existing), outcome: 'already_provisioned' };
    }
    if (!minted || !hashed) throw new Error('A provisioned purchase lost its state');

    const customerId = await linkCustomer(step, input.mode, input.buyer);
    if (input.buyer.stripeCustomerId) await reopenCustomerEvents(step, input.buyer.stripeCustomerId);
    if (input.subscription)
      await writeSubscription(step, input.mode, customerId, input.subscription, input.actor);
    const purchase: PurchaseTable = {
      ...(existing ?? (await newPurchase(step, input))),
      status: 'provisioned',
      failure: null,
      plan_id: input.planId,
      price_id: input.priceId,
      customer_id: customerId,
      subscription_id: input.subscription?.id ?? null,
      payment_intent_id: input.paymentIntentId,
      key_id: minted.id,
      amount_total: input.amountTotal,
      currency: input.currency,
      provisioned_at: now,
      updated_at: now,
    };
    await insertKey(step, minted, hashed, {
      plan_id: input.planId,
      customer_id: customerId,
      subscription_id: purchase.subscription_id,
      quantity: input.quantity,
      expires_at: input.accessMs === null ? null : now + input.accessMs,
    });
    await trx
      .insertInto('purchases')
      .values(purchase)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(purchase))
      .execute();
    await trx
      .insertInto('reveals')
      .values({
        purchase_id: purchase.id,
        key_id: minted.id,
        sealed: seal(
          minted.plaintext,
          sealKey(store.serverSecret, 'reveal', input.sessionId),
          `${purchase.id} ${minted.id}`,
        ),
        created_at: now,
        expires_at: now + store.revealTtlMs,
        claimed_at: null,
        claimed_by: null,
      })
      .execute();
    await recordProvisioning(step, input, purchase, minted.id, customerId);
    await applyPayments(
      step,
      {
        id: minted.id,
        plan_id: input.planId,
        subscription_id: purchase.subscription_id,
        payment_intent_id: purchase.payment_intent_id,
        disputed_since: null,
        revoked_at: null,
      },
      input.rulesOf,
      input.actor,
    );
    await step.mail('receipt', `purchase:${purchase.id}`, purchase.id, input.mode);
    return { purchase: toPurchase(purchase), outcome: 'provisioned' };
  });
}

async function recordProvisioning(
  step: Step,
  input: ProvisionPurchase,
  purchase: PurchaseTable,
  keyId: string,
  customerId: string,
): Promise<void> {
  await step.audit({
    actor: input.actor,
    action: 'key.provisioned',
    keyId,
    customerId,
    purchaseId: purchase.id,
    details: {
      plan: input.planId,
      price: input.priceId,
      subscription: purchase.subscription_id,
      ...(input.requestId === undefined ? {} : { request_id: input.requestId }),
    },
  });
  // A gateway may remember that this id does not exist.
  await step.changed([keyId]);
}

/**
 * A row for a session seen for the first time. The id it was opened under comes from metadata at Stripe, which a seller's
 * own code may copy from one session to the next: an id that is taken is not taken over.
 */
async function newPurchase(
  { trx, now }: Step,
  { sessionId, mode, purchaseId }: { sessionId: string; mode: Mode; purchaseId?: string },
): Promise<PurchaseTable> {
  const usable =
    purchaseId !== undefined &&
    isPurchaseId(purchaseId) &&
    !(await trx.selectFrom('purchases').select('id').where('id', '=', purchaseId).executeTakeFirst());
  return {
    id: usable ? purchaseId : newPurchaseId(),
    session_hash: sessionHash(sessionId),
    mode,
    plan_id: null,
    price_id: null,
    status: 'pending',
    failure: null,
    customer_id: null,
    subscription_id: null,
    payment_intent_id: null,
    key_id: null,
    amount_total: null,
    currency: null,
    created_at: now,
    provisioned_at: null,
    updated_at: now,
    claim_hash: null,
    session_sealed: null,
  };
}

export function toPurchase(row: PurchaseTable): Purchase {
  return {
    id: row.id,
    mode: row.mode,
    planId: row.plan_id,
    byProgram: row.claim_hash !== null,
    status: row.status,
    failure: row.failure,
    keyId: row.key_id,
    customerId: row.customer_id,
    subscriptionId: row.subscription_id,
    paymentIntentId: row.payment_intent_id,
    createdAt: row.created_at,
    provisionedAt: row.provisioned_at,
  };
}

/** Forgets checkouts that nobody paid for, last touched before a moment. */
export async function forgetPurchases({ trx }: Step, before: number): Promise<void> {
  await trx
    .deleteFrom('purchases')
    .where('status', 'in', ['pending', 'failed', 'canceled'])
    .where('updated_at', '<', before)
    .execute();
}
