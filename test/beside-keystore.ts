import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { sqlitePath } from '../shared/keystore-url.ts';

/** How long a write waits for its turn, in milliseconds, on however slow a machine. */
const GIVE_UP_MS = 120_000;

/** Another connection to the file of a keystore. It waits for no lock by itself: see {@link whenUnlocked}. */
export function besideKeystore(url: string): Database.Database {
  return new Database(sqlitePath(url), { timeout: 0 });
}

/**
 * Writes as soon as nobody else does. Waiting must not block: who writes may be a transaction of this very process, which
 * ends only when its next statement gets a turn.
 */
export async function whenUnlocked<T>(write: () => T): Promise<T> {
  for (const startedAt = performance.now(); ; await sleep(5)) {
    try {
      return write();
    } catch (error) {
      const locked = (error as { code?: string }).code?.startsWith('SQLITE_BUSY');
      if (!locked || performance.now() - startedAt > GIVE_UP_MS) throw error;
    }
  }
}
