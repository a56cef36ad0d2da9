import { hashPassword, isPassword } from './password-hash.ts';
import { type By, inOneStep, type Store } from './store.ts';

/** Somebody who may sign in to the console. Times are milliseconds since the epoch. */
export type ConsoleUser = {
  name: string;
  createdAt: number;
  disabledAt: number | null;
  /** Whether a code of an authenticator app is asked for. */
  secondFactor: boolean;
};

/** Long enough that no rules on what is in it are needed; and at most, so that nobody hashes a book. */
const MIN_PASSWORD = 12;
const MAX_PASSWORD = 256;

/** What is wrong with a new password, as a sentence; `null`: nothing. */
export function passwordFault(password: string): string | null {
  const { length } = [...password];
  if (length >= MIN_PASSWORD && length <= MAX_PASSWORD) return null;
  return `A password has ${MIN_PASSWORD} to ${MAX_PASSWORD} characters.`;
}

/** Makes a user of the console. */
export async function createConsoleUser(
  store: Store,
  input: By & { name: string; password: string },
): Promise<'created' | 'exists'> {
  const { name, password, ...by } = input;
  const passwordHash = await hashPassword(password);
  return inOneStep(store, async (step) => {
    const { numInsertedOrUpdatedRows } = await step.trx
      .insertInto('console_users')
      .values({
        name,
        password_hash: passwordHash,
        created_at: step.now,
        disabled_at: null,
        totp_sealed: null,
        totp_step: null,
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirstOrThrow();
    if (!numInsertedOrUpdatedRows) return 'exists';
    await step.audit({ ...by, action: 'console_user.created', details: { user: name } });
    return 'created';
  });
}

/** Keeps a user out from now on, also where signed in. */
export async function disableConsoleUser(
  store: Store,
  input: By & { name: string },
): Promise<'disabled' | 'already_disabled' | 'not_found'> {
  const { name, ...by } = input;
  return inOneStep(store, async (step) => {
    const { trx, now } = step;
    const user = await trx
      .selectFrom('console_users')
      .select('disabled_at')
      .where('name', '=', name)
      .executeTakeFirst();
    if (!user) return 'not_found';
    if (user.disabled_at !== null) return 'already_disabled';
    await trx.updateTable('console_users').set({ disabled_at: now }).where('name', '=', name).execute();
    await trx.deleteFrom('console_sessions').where('user_name', '=', name).execute();
    await step.audit({ ...by, action: 'console_user.disabled', details: { user: name } });
    return 'disabled';
  });
}

/** All users, by name. */
export async function listConsoleUsers(store: Store): Promise<ConsoleUser[]> {
  const users = await store.db
    .selectFrom('console_users')
    .select((user) => [
      'name',
      'created_at as createdAt',
      'disabled_at as disabledAt',
      user('totp_sealed', 'is not', null).as('secondFactor'),
    ])
    .orderBy('name')
    .execute();
  // SQLite has numbers for truth.
  return users.map((user) => ({ ...user, secondFactor: Boolean(user.secondFactor) }));
}

/** Whether anybody may sign in: without such a user there is no console. */
export async function hasConsoleUsers(store: Store): Promise<boolean> {
  const user = await store.db
    .selectFrom('console_users')
    .select('name')
    .where('disabled_at', 'is', null)
    .limit(1)
    .executeTakeFirst();
  return user !== undefined;
}

/** Gives a user who may sign in another password, and ends all that was signed in with the old one. */
export async function changeConsolePassword(
  store: Store,
  input: By & { name: string; password: string },
): Promise<'changed' | 'not_found'> {
  const { name, password, ...by } = input;
  const passwordHash = await hashPassword(password);
  return inOneStep(store, async (step) => {
    const { numUpdatedRows } = await step.trx
      .updateTable('console_users')
      .set({ password_hash: passwordHash })
      .where('name', '=', name)
      .where('disabled_at', 'is', null)
      .executeTakeFirst();
    if (!numUpdatedRows) return 'not_found';
    await step.trx.deleteFrom('console_sessions').where('user_name', '=', name).execute();
    await step.audit({ ...by, action: 'console_user.password_changed', details: { user: name } });
    return 'changed';
  });
}

/**
 * Checks the password of a user who may sign in. Takes as long for a user there is not.
 *
 * @returns what {@link startConsoleSession} has to be told: the password that was right has to be so still. `null`: it is wrong
 */
export async function checkConsolePassword(
  store: Store,
  input: { name: string; password: string },
): Promise<{ passwordHash: string } | null> {
  const user = await store.db
    .selectFrom('console_users')
    .select('password_hash')
    .where('name', '=', input.name)
    .where('disabled_at', 'is', null)
    .executeTakeFirst();
  if (!(await isPassword(input.password, user?.password_hash)) || !user) return null;
  return { passwordHash: user.password_hash };
}
