import type { Kysely, Transaction } from 'kysely';
import type { ChangeFeed } from './change-feed.ts';
import type { KeyHasher } from './key-hash.ts';
import type { Schema } from './schema.ts';

/** What every keystore operation works with. */
export type Store = {
  db: Kysely<Schema>;
  hasher: KeyHasher;
  serverSecret: string;
  revealTtlMs: number;
  changes: ChangeFeed;
  /** Milliseconds since the epoch. */
  now(): number;
};

/** One transaction of a business step, with the two records that belong to every change. */
export type Step = {
  trx: Transaction<Schema>;
  /** One moment for the whole step. */
  now: number;
  /** Who did what to which key. */
  audit(entry: AuditEntry): Promise<void>;
  /** Tells every gateway that what it knows of these keys is out of date. */
  changed(keyIds: readonly string[]): Promise<void>;
};

export type AuditEntry = {
  actor: string;
  action: string;
  keyId?: string | null;
  customerId?: string | null;
  purchaseId?: string | null;
  details?: Record<string, unknown>;
};

/** Runs one business step in one transaction: all of it is committed, with its audit entry and change notices, or nothing is. */
export async function inOneStep<T>(store: Store, work: (step: Step) => Promise<T>): Promise<T> {
  const now = store.now();
  let keysChanged = false;
  const result = await store.db.transaction().execute((trx) =>
    work({
      trx,
      now,
      async audit({ actor, action, keyId = null, customerId = null, purchaseId = null, details }) {
        await trx
          .insertInto('audit')
          .values({
            at: now,
            actor,
            action,
            key_id: keyId,
            customer_id: customerId,
            purchase_id: purchaseId,
            details: details ? JSON.stringify(details) : null,
          })
          .execute();
      },
      async changed(keyIds) {
        if (keyIds.length === 0) return;
        keysChanged = true;
        await trx
          .insertInto('changes')
          .values(keyIds.map((key_id) => ({ key_id, at: now })))
          .execute();
      },
    }),
  );
  if (keysChanged) store.changes.wake();
  return result;
}
