import { Secret, TOTP } from 'otpauth';
import { openSeal, seal, sealKey } from './seal.ts';
import { type By, inOneStep, type Step, type Store } from './store.ts';

const PERIOD_S = 30;
/** How many steps a phone's clock may be off, either way. */
const STEPS_OFF = 1;

/**
 * Asks a user for codes of an authenticator app from now on: six digits that change every 30 seconds. Whoever is signed in
 * by that name without one is signed out.
 *
 * @param input.secret 20 random bytes in Base32
 * @param input.code one of the app that was told the secret: so nobody is kept out by a wrong scan
 * @see RFC 6238
 */
export async function setUpSecondFactor(
  store: Store,
  input: By & { name: string; secret: string; code: string },
): Promise<'set_up' | 'wrong_code' | 'already_set_up' | 'not_found'> {
  const { name, secret, code, ...by } = input;
  return inOneStep(store, async (step) => {
    const user = await step.trx
      .selectFrom('console_users')
      .select('totp_sealed')
      .where('name', '=', name)
      .where('disabled_at', 'is', null)
      .executeTakeFirst();
    if (!user) return 'not_found';
    if (user.totp_sealed) return 'already_set_up';
    const used = stepOf(secret, code, step.now);
    if (used === null) return 'wrong_code';
    await step.trx
      .updateTable('console_users')
      .set({ totp_sealed: seal(secret, keyOf(store, name), name), totp_step: used })
      .where('name', '=', name)
      .execute();
    await step.trx.deleteFrom('console_sessions').where('user_name', '=', name).execute();
    await step.audit({ ...by, action: 'console_user.second_factor_set_up', details: { user: name } });
    return 'set_up';
  });
}

/**
 * Asks a user for no code any more.
 *
 * @param input.code one of the app; `null`: whoever asks for this is let do without
 */
export async function removeSecondFactor(
  store: Store,
  input: By & { name: string; code: string | null },
): Promise<'removed' | 'wrong_code' | 'none' | 'not_found'> {
  const { name, code, ...by } = input;
  return inOneStep(store, async (step) => {
    const user = await step.trx
      .selectFrom('console_users')
      .select('totp_sealed')
      .where('name', '=', name)
      .executeTakeFirst();
    if (!user) return 'not_found';
    if (!user.totp_sealed) return 'none';
    if (code !== null && (await spendCode(store, step, name, code)) === 'wrong') return 'wrong_code';
    await step.trx
      .updateTable('console_users')
      .set({ totp_sealed: null, totp_step: null })
      .where('name', '=', name)
      .execute();
    await step.audit({ ...by, action: 'console_user.second_factor_removed', details: { user: name } });
    return 'removed';
  });
}

/**
 * Uses a code up: of any number of tries with it, in any number of processes, one is right.
 *
 * @see RFC 6238, section 5.2: a code is accepted once
 */
export async function spendCode(
  store: Store,
  { trx, now }: Step,
  name: string,
  code: string,
): Promise<'right' | 'wrong' | 'none'> {
  const user = await trx
    .selectFrom('console_users')
    .select(['totp_sealed', 'totp_step'])
    .where('name', '=', name)
    .executeTakeFirst();
  if (!user?.totp_sealed) return 'none';
  const used = stepOf(openSeal(user.totp_sealed, keyOf(store, name), name), code, now);
  if (used === null || used <= (user.totp_step ?? 0)) return 'wrong';
  await trx.updateTable('console_users').set({ totp_step: used }).where('name', '=', name).execute();
  return 'right';
}

/** Which step a code is of; `null`: of none around this moment. */
function stepOf(secret: string, code: string, nowMs: number): number | null {
  const token = code.replaceAll(/\s/g, '');
  if (!/^\d{6}$/.test(token)) return null;
  const totp = new TOTP({ secret: Secret.fromBase32(secret), period: PERIOD_S });
  const off = totp.validate({ token, timestamp: nowMs, window: STEPS_OFF });
  return off === null ? null : Math.floor(nowMs / 1000 / PERIOD_S) + off;
}

function keyOf({ serverSecret }: Store, name: string): Buffer {
  return sealKey(serverSecret, 'totp', name);
}
