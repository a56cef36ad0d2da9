// The thread behind `thread-connection.ts`: a connection of its own to the keystore's file, on which it does what it is sent.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { KeystoreError } from './errors.ts';
import { openAgain, SqliteConnection } from './sqlite-connection.ts';
import type { Answer, Asked, Task } from './thread-connection.ts';
import type { AddUsage } from './usage-ledger.ts';

/**
 * Of the file in memory, at the most, until another connection writes to it: usage is written all over it, and what is not in
 * memory is read first.
 */
const CACHE_KIB = 64 * 1024;

const port = parentPort as MessagePort;
const raw = openAgain((workerData as { path: string }).path);
raw.pragma(`cache_size = -${CACHE_KIB}`);
const connection = new SqliteConnection(raw);
let ledger: Promise<AddUsage> | null = null;

port.on('message', async (asked: Asked) => {
  if (asked === 'close') {
    await connection.close();
    port.close();
    return;
  }
  const { id, task } = asked;
  try {
    port.postMessage({ id, result: await run(task) } satisfies Answer);
  } catch (error) {
    const { message, code = 'UNKNOWN' } = error as Partial<KeystoreError> & Error;
    port.postMessage({ id, error: { message, code } } satisfies Answer);
  }
});

async function run(task: Task): Promise<unknown> {
  if ('statement' in task) return connection.executeQuery(task.statement);
  // A request may wait for the first statement, and what that needs is little: the rest is loaded when it is needed.
  ledger ??= import('./sqlite-ledger.ts').then(({ ledgerOver }) => ledgerOver(connection));
  return (await ledger)(task.usage);
}
