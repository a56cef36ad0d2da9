import type { LicenceAction } from './schema.ts';
import { inOneStepAside, type Step, type Store } from './store.ts';

/** A question that a program asked about a licence; `at` in milliseconds since the epoch. */
export type LicenceAttempt = {
  at: number;
  action: LicenceAction;
  deviceId: string | null;
  /** `ok`, or the code of the problem it was answered with. */
  outcome: string;
  address: string | null;
};

/** Writes down a question about a licence, and how it was answered. */
export async function noteLicenceAttempt(
  store: Store,
  input: { keyId: string } & Omit<LicenceAttempt, 'at'>,
): Promise<void> {
  await inOneStepAside(store, async ({ trx, now }) => {
    await trx
      .insertInto('licence_attempts')
      .values({
        at: now,
        key_id: input.keyId,
        action: input.action,
        device_id: input.deviceId,
        outcome: input.outcome,
        address: input.address,
      })
      .execute();
  });
}

/** What was asked about a key, the newest first. */
export async function listLicenceAttempts(
  store: Store,
  input: { keyId: string; limit: number },
): Promise<LicenceAttempt[]> {
  const rows = await store.db
    .selectFrom('licence_attempts')
    .selectAll()
    .where('key_id', '=', input.keyId)
    .orderBy('seq', 'desc')
    .limit(input.limit)
    .execute();
  return rows.map(({ at, action, device_id: deviceId, outcome, address }) => ({
    at,
    action,
    deviceId,
    outcome,
    address,
  }));
}

/** Forgets what was asked before a moment. */
export async function forgetLicenceAttempts({ trx }: Step, before: number): Promise<void> {
  await trx.deleteFrom('licence_attempts').where('at', '<', before).execute();
}
