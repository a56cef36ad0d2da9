import type { Transaction } from 'kysely';
import type { Schema } from './schema.ts';

/** Destroys what is sealed for the claim of a key that is not to be claimed any more: its plaintext, and the session id that opens it. */
export async function destroySeals(trx: Transaction<Schema>, keyId: string): Promise<void> {
  await trx.updateTable('reveals').set({ sealed: null }).where('key_id', '=', keyId).execute();
  // Until the claim, purchase and reveal name the same key.
  await trx.updateTable('purchases').set({ session_sealed: null }).where('key_id', '=', keyId).execute();
}
