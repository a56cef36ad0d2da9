// For `node --import`, with KILL_AT_WRITE set: counts what the process writes to its keystore, and can have it killed at one of the writes. The
// process that started it arms it by a message, and is told what was written by another.
import { flushCompileCache } from 'node:module';
import Database from 'better-sqlite3';

/** Kills at the `write`th write from now on, just before or just after it; `null` only counts. */
export type Arm = { kill: null | { write: number; when: 'before' | 'after' } };

/** What was written since the arming, in words such as `insert keys` or `commit`. Answers the message `counted`. */
export type Counted = { writes: string[] };

/** What is done again at such intervals, or longer ones, does not happen here. */
const SELDOM_MS = 5000;

/** What is printed just before the kill. */
export const killedAt = (when: string, write: number, what: string) =>
  `killed ${when} write ${write}: ${what}`;

// The tests import this file too, for its types.
if (process.env.KILL_AT_WRITE) {
  let kill: Arm['kill'] = null;
  let writes: string[] | null = null;

  const dieIf = (when: 'before' | 'after', write: number, what: string) => {
    if (kill?.write !== write || kill.when !== when) return;
    process.stdout.write(`${killedAt(when, write, what)}\n`);
    // The signal reaches this thread before the call returns: not a line of the program runs after it.
    process.kill(process.pid, 'SIGKILL');
  };

  const prepare = Database.prototype.prepare;
  Database.prototype.prepare = function (this: Database.Database, sql: string) {
    const statement = prepare.call(this, sql);
    const what = writeOf(sql);
    if (what === null) return statement;
    for (const name of ['run', 'all', 'get'] as const) {
      const execute = statement[name].bind(statement) as (...parameters: unknown[]) => unknown;
      const counted = (...parameters: unknown[]) => {
        if (!writes) return execute(...parameters);
        dieIf('before', writes.length + 1, what);
        // A write that finds the keystore locked is tried again, and counts once.
        const result = execute(...parameters);
        writes.push(what);
        dieIf('after', writes.length, what);
        return result;
      };
      Object.defineProperty(statement, name, { value: counted });
    }
    return statement;
  } as typeof prepare;

  // Leases are renewed every so many seconds: on a busy machine in the midst of a step, where no other run has those writes.
  const every = globalThis.setInterval;
  globalThis.setInterval = ((callback: () => void, ms = 0) =>
    every(ms < SELDOM_MS ? callback : () => {}, ms)) as typeof setInterval;

  process.on('message', (message: Arm | 'counted') => {
    if (message === 'counted') {
      process.send?.({ writes: writes ?? [] } satisfies Counted);
      return;
    }
    // A process that is killed does not leave to the next one what it has compiled, unless it does so before.
    flushCompileCache();
    kill = message.kill;
    writes = [];
    process.send?.({ writes } satisfies Counted);
  });
  process.channel?.unref();
}

/** A statement in two words; `null` for one that writes nothing. */
function writeOf(sql: string): string | null {
  const [, verb, table] =
    /^\s*(insert|update|delete|begin|commit|rollback|savepoint|release)\b(?:[a-z ]*"(\w+)")?/i.exec(sql) ??
    [];
  if (!verb) return null;
  return [verb.toLowerCase(), table].filter(Boolean).join(' ');
}
