import { setTimeout as pause } from 'node:timers/promises';
import type { Transaction } from 'kysely';
import type { Mode } from '../shared/keys.ts';
import type { ChangeFeed } from './change-feed.ts';
import type { OpenDatabase } from './database.ts';
import type { KeystoreError } from './errors.ts';
import type { KeyHasher } from './key-hash.ts';
import { type MailKind, mailEvent } from './own-events.ts';
import type { Schema } from './schema.ts';

/** What every keystore operation works with. */
export type Store = Omit<OpenDatabase, 'feed'> & {
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

/** Who does something: what the audit log is to say of it. */
export type By = {
  actor: string;
  /** From which address, where a person does it over the network. */
  address?: string;
};

export type AuditEntry = By & {
  action: string;
  keyId?: string | null;
  customerId?: string | null;
  purchaseId?: string | null;
  details?: Record<string, unknown>;
};

/**
 * Runs one business step in one transaction: all of it is committed, with its audit entry and change notices, or nothing is.
 * Of all processes, one at a time is in a step, so that what it reads stays true until it is done.
 */
export async function inOneStep<T>(store: Store, work: (step: Step) => Promise<T>): Promise<T> {
  let keysChanged = false;
  const result = await inTransaction(store, 'alone', store.db, (trx) => {
    // Taken with the lock in hand: whatever another process wrote while this one waited lies before it.
    const now = store.now();
    return work({
      trx,
      now,
      async audit({ actor, address, action, keyId = null, customerId = null, purchaseId = null, details }) {
        await trx
          .insertInto('audit')
          .values({
            at: now,
            actor,
            address: address ?? null,
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
        if (!keysChanged) await store.announce(trx);
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

/**
 * Runs statements in one transaction, without anything else in this process waiting for the disk. Others may run such a
 * transaction at the same time where the database lets them, but nobody a step.
 */
export function inOneStepAside<T>(
  store: Pick<Store, 'writer' | 'enter' | 'now'>,
  work: (step: Pick<Step, 'trx' | 'now'>) => Promise<T>,
): Promise<T> {
  return inTransaction(store, 'together', store.writer, (trx) => work({ trx, now: store.now() }));
}

/** How long a write waits for those of other processes, in milliseconds. Writes here take a few milliseconds. */
const BUSY_LIMIT_MS = 10_000;
/** Between two tries; and after a while, when others keep taking the lock the moment it is free. */
const BUSY_PAUSE_MS = 10;
const PATIENT_MS = 1000;
const HURRIED_PAUSE_MS = 2;

/** Nothing has been done when these are thrown: SQLite's file is locked; PostgreSQL chose it to end a deadlock. */
const TRIED_AGAIN = new Set(['SQLITE_BUSY', '40P01']);

/**
 * Runs a transaction, again and again while another process holds the lock. Between two tries the connection is free, so
 * that reads and the change feed go on.
 */
async function inTransaction<T>(
  { enter }: Pick<Store, 'enter'>,
  how: 'alone' | 'together',
  db: Store['db'],
  work: (trx: Transaction<Schema>) => Promise<T>,
): Promise<T> {
  const begun = performance.now();
  for (;;) {
    try {
      return await db.transaction().execute(async (trx) => {
        await enter(trx, how);
        return work(trx);
      });
    } catch (error) {
      const late = performance.now() - begun > BUSY_LIMIT_MS;
      if (late || !TRIED_AGAIN.has((error as KeystoreError).code)) throw error;
    }
    const pauseMs = performance.now() - begun > PATIENT_MS ? HURRIED_PAUSE_MS : BUSY_PAUSE_MS;
    await pause(pauseMs * (0.5 + Math.random()));
  }
}
