import { createHash, randomBytes } from 'node:crypto';
import { spendCode } from './second-factor.ts';
import { type By, inOneStep, inOneStepAside, type Step, type Store } from './store.ts';

/** How long a sign-in lasts, and how long without a request; milliseconds. */
const LASTS_MS = 12 * 3_600_000;
const IDLE_MS = 30 * 60_000;
/** How exactly is kept when a session was last seen. */
const SEEN_MS = 60_000;

/**
 * Signs a user in whose password was found right. A second factor is asked for in the same step, so that none that is set up
 * meanwhile, nor a password changed meanwhile, is got around.
 *
 * @param input.passwordHash what the password was found right by
 * @param input.code of the authenticator app; whatever it is where there is none
 * @param input.instead the token this browser had before: that session ends
 * @returns a token nobody has had before; `no_longer`: the user was disabled or has another password
 */
export async function startConsoleSession(
  store: Store,
  input: By & { name: string; passwordHash: string; code: string; instead: string | undefined },
): Promise<{ token: string } | 'wrong_code' | 'no_longer'> {
  const { name, passwordHash, code, instead, ...by } = input;
  const token = randomBytes(32).toString('base64url');
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const user = await trx
      .selectFrom('console_users')
      .select('name')
      .where('name', '=', name)
      .where('password_hash', '=', passwordHash)
      .where('disabled_at', 'is', null)
      .executeTakeFirst();
    if (!user) return 'no_longer';
    if ((await spendCode(store, step, name, code)) === 'wrong') return 'wrong_code';
    if (instead !== undefined) await end(step, instead);
    await trx
      .insertInto('console_sessions')
      .values({ token_hash: hashOf(token), user_name: name, created_at: now, last_seen_at: now })
      .execute();
    await step.audit({ ...by, action: 'console.signed_in' });
    return { token };
  });
}

/** The name of the user who is signed in with this token; `undefined`: nobody, or no longer. */
export async function findConsoleSession(store: Store, token: string): Promise<string | undefined> {
  const now = store.now();
  const hash = hashOf(token);
  const session = await store.db
    .selectFrom('console_sessions')
    .innerJoin('console_users', 'console_users.name', 'console_sessions.user_name')
    .select(['user_name', 'last_seen_at'])
    .where('token_hash', '=', hash)
    .where('console_users.disabled_at', 'is', null)
    .where('console_sessions.created_at', '>', now - LASTS_MS)
    .where('last_seen_at', '>', now - IDLE_MS)
    .executeTakeFirst();
  if (!session) return undefined;
  if (session.last_seen_at <= now - SEEN_MS) {
    await inOneStepAside(store, async ({ trx }) => {
      await trx
        .updateTable('console_sessions')
        .set({ last_seen_at: now })
        .where('token_hash', '=', hash)
        .execute();
    });
  }
  return session.user_name;
}

/** Signs out: the token is worth nothing from now on. */
export async function endConsoleSession(store: Store, token: string): Promise<void> {
  await inOneStep(store, (step) => end(step, token));
}

/** Forgets sessions that are over. */
export async function forgetConsoleSessions({ trx, now }: Step): Promise<void> {
  await trx
    .deleteFrom('console_sessions')
    .where((where) =>
      where.or([where('created_at', '<=', now - LASTS_MS), where('last_seen_at', '<=', now - IDLE_MS)]),
    )
    .execute();
}

async function end({ trx }: Step, token: string): Promise<void> {
  await trx.deleteFrom('console_sessions').where('token_hash', '=', hashOf(token)).execute();
}

/** Random and long, so that a plain hash is enough. */
function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
