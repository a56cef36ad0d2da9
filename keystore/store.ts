import { setTimeout as pause } from 'node:timers/promises';
import type { Kysely, Transaction } from 'kysely';
import type { Mode } from '../shared/keys.ts';
import type { ChangeFeed } from './change-feed.ts';
import type { KeystoreError } from './errors.ts';
import type { KeyHasher } from './key-hash.ts';
import { type MailKind, mailEvent } from './own-events.ts';
import type { Schema } from './schema.ts';

/** What every keystore operation works with. */
export type Store = {
  db: Kysely<Schema>;
  /** For writes that must not hold up the requests of this process: the disk may take its time. */
  writer: Kysely<Schema>;
  hasher: KeyHasher;
  serverSecret: string;
  revealTtlMs: number;
  /** Whether e-mail is set up: otherwise none is queued. */
  mails: boolean;
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
  /** Queues a mail, to be sent once this step is committed. The same occasion is mailed once. */
  mail(kind: MailKind, subject: string, occasion: string, mode: Mode): Promise<void>;
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
  let keysChanged = false;
  const result = await inTransaction(store, (trx) => {
    // Taken with the lock in hand: whatever another process wrote while this one waited lies before it.
    const now = store.now();
    return work({
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
      async mail(kind, subject, occasion, mode) {
        if (!store.mails) return;
        await trx
          .insertInto('events')
          .values(mailEvent(kind, subject, occasion, mode, now))
          .onConflict((conflict) => conflict.doNothing())
          .execute();
      },
    });
  });
  if (keysChanged) store.changes.wake();
  return result;
}

/** The same, without anything else in this process waiting for the disk. */
export function inOneStepAside<T>(store: Store, work: (step: Step) => Promise<T>): Promise<T> {
  return inOneStep({ ...store, db: store.writer }, work);
}

/** How long a write waits for those of other processes, in milliseconds. Writes here take a few milliseconds. */
const BUSY_LIMIT_MS = 5000;
const BUSY_PAUSE_MS = 10;

/**
 * Runs a transaction, again and again while another process holds the lock. Between two tries the connection is free, so
 * that reads and the change feed go on.
 */
async function inTransaction<T>(store: Store, work: (trx: Transaction<Schema>) => Promise<T>): Promise<T> {
  const giveUp = performance.now() + BUSY_LIMIT_MS;
  for (;;) {
    try {
      return await store.db.transaction().execute(work);
    } catch (error) {
      // Only the start of a transaction finds the lock taken: nothing has been done by then.
      if ((error as KeystoreError).code !== 'SQLITE_BUSY' || performance.now() > giveUp) throw error;
    }
    await pause(BUSY_PAUSE_MS * (0.5 + Math.random()));
  }
}
