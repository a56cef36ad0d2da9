import type { Kysely } from 'kysely';
import type { Schema } from './schema.ts';
import { inOneStep, type Store } from './store.ts';

/** A note about the keystore as a whole; `undefined` when there is none of this name. */
export async function readMeta({ db }: { db: Kysely<Schema> }, name: string): Promise<string | undefined> {
  const row = await db.selectFrom('meta').select('value').where('name', '=', name).executeTakeFirst();
  return row?.value;
}

/** The note of this name, which is made with `value` where there is none. Of any number of processes, one makes it. */
export async function readOrSetMeta(store: Store, name: string, value: string): Promise<string> {
  const existing = await readMeta(store, name);
  if (existing !== undefined) return existing;
  return inOneStep(store, async ({ trx }) => {
    await trx
      .insertInto('meta')
      .values({ name, value })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return (await readMeta({ db: trx }, name)) as string;
  });
}

/** What is known of a task that one process at a time does. Milliseconds since the epoch. */
type Turn = { owner: string; until: number; doneAt: number | null };

/**
 * Takes the turn at a task that one process at a time does, for `holdMs`.
 *
 * @param input.restMs how long after it was last done it need not be done again
 * @returns when the task was last done (`null`: never); `busy`: another process is at it; `rested`: it was just done
 */
export async function takeTurn(
  store: Store,
  input: { task: string; owner: string; holdMs: number; restMs: number },
): Promise<{ doneAt: number | null } | 'busy' | 'rested'> {
  return inOneStep(store, async ({ trx, now }) => {
    const turn = await readTurn(trx, input.task);
    if (turn && turn.until > now && turn.owner !== input.owner) return 'busy';
    if (turn?.doneAt && now - turn.doneAt < input.restMs) return 'rested';
    const doneAt = turn?.doneAt ?? null;
    await writeTurn(trx, input.task, { owner: input.owner, until: now + input.holdMs, doneAt });
    return { doneAt };
  });
}

/** Ends a turn. @param input.doneAt up to when the task has been done; `null`: it was not */
export async function endTurn(
  store: Store,
  input: { task: string; owner: string; doneAt: number | null },
): Promise<void> {
  await inOneStep(store, async ({ trx }) => {
    const turn = await readTurn(trx, input.task);
    if (turn?.owner !== input.owner) return;
    await writeTurn(trx, input.task, { ...turn, until: 0, doneAt: input.doneAt ?? turn.doneAt });
  });
}

async function readTurn(db: Kysely<Schema>, task: string): Promise<Turn | undefined> {
  const value = await readMeta({ db }, `turn:${task}`);
  return value === undefined ? undefined : (JSON.parse(value) as Turn);
}

async function writeTurn(db: Kysely<Schema>, task: string, turn: Turn): Promise<void> {
  const row = { name: `turn:${task}`, value: JSON.stringify(turn) };
  await db
    .insertInto('meta')
    .values(row)
    .onConflict((conflict) => conflict.column('name').doUpdateSet(row))
    .execute();
}
