// The thread behind `thread-connection.ts`: a connection of its own to the keystore's file, on which it runs what it is sent.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { KeystoreError } from './errors.ts';
import { openAgain, SqliteConnection } from './sqlite-connection.ts';
import type { Answer, Asked } from './thread-connection.ts';

const port = parentPort as MessagePort;
const connection = new SqliteConnection(openAgain((workerData as { path: string }).path));

port.on('message', async (asked: Asked) => {
  if (asked === 'close') {
    await connection.close();
    port.close();
    return;
  }
  const { id, statement } = asked;
  try {
    port.postMessage({ id, result: await connection.executeQuery(statement) } satisfies Answer);
  } catch (error) {
    const { message, code } = error as KeystoreError;
    port.postMessage({ id, error: { message, code } } satisfies Answer);
  }
});
