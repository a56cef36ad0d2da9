// The thread behind `thread-connection.ts`: connections of its own to the keystore's file, on which it runs what it is sent.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { Kysely } from 'kysely';
import type { KeystoreError } from './errors.ts';
import type { Schema } from './schema.ts';
import { openAgain, SqliteConnection } from './sqlite-connection.ts';
import { ImmediateSqliteDialect, SQLITE } from './sqlite-dialect.ts';
import type { Answer, Asked } from './thread-connection.ts';
import { addUsage } from './usage-ledger.ts';

const { path } = workerData as { path: string };
const port = parentPort as MessagePort;
const connection = new SqliteConnection(openAgain(path));
/** A transaction of who sends statements may be under way when usage is to be added: that has another connection. */
let writer: Kysely<Schema> | null = null;

port.on('message', async (asked: Asked) => {
  if (asked === 'close') {
    await connection.close();
    await writer?.destroy();
    port.close();
    return;
  }
  const { id, what } = asked;
  try {
    port.postMessage({ id, result: await run(what) } satisfies Answer);
  } catch (error) {
    const { message, code } = error as KeystoreError;
    port.postMessage({ id, error: { message, code } } satisfies Answer);
  }
});

function run(what: Exclude<Asked, 'close'>['what']): Promise<unknown> {
  if ('statement' in what) return connection.executeQuery(what.statement);
  writer ??= new Kysely<Schema>({
    dialect: new ImmediateSqliteDialect(new SqliteConnection(openAgain(path))),
  });
  return addUsage({ ...SQLITE, writer }, what.usage);
}
