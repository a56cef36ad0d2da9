import { randomBase62 } from '../shared/base62.ts';
import type { Mode } from '../shared/keys.ts';
import type { CustomerTable } from './schema.ts';
import { inOneStep, type Step, type Store } from './store.ts';
import { isOlderLook, type SyncOutcome } from './sync.ts';

/** Who bought, as a checkout or a subscription names them. */
export type Buyer = { stripeCustomerId: string | null; email: string | null };

/** A customer as the rest of the project sees one. */
export type Customer = { id: string; stripeCustomerId: string | null; email: string | null };

/** A customer as Stripe showed one; `fetchedAt` is when the fetch began, milliseconds. */
export type CustomerSnapshot = {
  stripeCustomerId: string;
  /** `null`: none, or deleted at Stripe. */
  email: string | null;
  /** Lookup keys of the features the customer is entitled to; `null`: not asked for, keep what is known. */
  entitlements: readonly string[] | null;
  fetchedAt: number;
};

/** A customer by our id or by Stripe's. */
export async function findCustomer(store: Store, id: string): Promise<Customer | undefined> {
  const row = await store.db
    .selectFrom('customers')
    .select(['id', 'stripe_customer_id as stripeCustomerId', 'email'])
    .where((where) => where.or([where('id', '=', id), where('stripe_customer_id', '=', id)]))
    .executeTakeFirst();
  return row;
}

/** Stripe's ids of a known customer's subscriptions that have not ended. */
export async function openSubscriptionsOf(store: Store, stripeCustomerId: string): Promise<string[]> {
  const rows = await store.db
    .selectFrom('subscriptions')
    .innerJoin('customers', 'customers.id', 'subscriptions.customer_id')
    .select('subscriptions.id')
    .where('customers.stripe_customer_id', '=', stripeCustomerId)
    .where('status', 'not in', ['canceled', 'incomplete_expired'])
    .execute();
  return rows.map((row) => row.id);
}

/** Writes a known customer as Stripe showed one. Nobody new is made: a customer comes from a purchase. */
export async function syncCustomer(
  store: Store,
  input: { customer: CustomerSnapshot; actor: string },
): Promise<SyncOutcome | 'not_ours'> {
  const { stripeCustomerId, email, entitlements, fetchedAt } = input.customer;
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const existing = await rowOf(step, stripeCustomerId);
    if (!existing) return 'not_ours';
    // Two things are looked at, not always both: a look at one says nothing of the other.
    const newer = !isOlderLook(existing.fetched_at, fetchedAt, now);
    const newerRights =
      entitlements !== null && !isOlderLook(existing.entitlements_fetched_at, fetchedAt, now);
    if (!newer && !newerRights) return 'stale';
    const next = {
      email: newer ? email : existing.email,
      fetched_at: newer ? fetchedAt : existing.fetched_at,
      entitlements: newerRights ? JSON.stringify([...entitlements].sort()) : existing.entitlements,
      entitlements_fetched_at: newerRights ? fetchedAt : existing.entitlements_fetched_at,
    };
    await trx
      .updateTable('customers')
      .set({ ...next, updated_at: now })
      .where('id', '=', existing.id)
      .execute();
    const entitled = next.entitlements !== existing.entitlements;
    if (!entitled && next.email === existing.email) return 'unchanged';
    if (entitled) {
      const keys = await trx.selectFrom('keys').select('id').where('customer_id', '=', existing.id).execute();
      await step.changed(keys.map((key) => key.id));
    }
    await step.audit({
      actor: input.actor,
      action: 'customer.updated',
      customerId: existing.id,
      details: { email_changed: next.email !== existing.email, ...(entitled ? { entitlements } : {}) },
    });
    return 'updated';
  });
}

/** Finds or makes the customer behind a purchase or subscription. Returns our id. */
export async function linkCustomer(step: Step, mode: Mode, buyer: Buyer): Promise<string> {
  const { trx, now } = step;
  const existing = buyer.stripeCustomerId && (await rowOf(step, buyer.stripeCustomerId));
  if (existing) {
    // What a look at the customer itself showed counts more than what a checkout was filled in with.
    if (buyer.email && buyer.email !== existing.email && existing.fetched_at === null) {
      await trx
        .updateTable('customers')
        .set({ email: buyer.email, updated_at: now })
        .where('id', '=', existing.id)
        .execute();
    }
    return existing.id;
  }
  const id = `cust_${randomBase62(16)}`;
  const row: CustomerTable = {
    id,
    mode,
    stripe_customer_id: buyer.stripeCustomerId,
    email: buyer.email,
    entitlements: null,
    fetched_at: null,
    entitlements_fetched_at: null,
    created_at: now,
    updated_at: now,
  };
  await trx.insertInto('customers').values(row).execute();
  return id;
}

function rowOf({ trx }: Step, stripeCustomerId: string): Promise<CustomerTable | undefined> {
  return trx
    .selectFrom('customers')
    .selectAll()
    .where('stripe_customer_id', '=', stripeCustomerId)
    .executeTakeFirst();
}
