import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { KeystoreError } from './errors.ts';
import { openPool } from './postgres-pool.ts';

/** A message of PostgreSQL's protocol, version 3: https://www.postgresql.org/docs/current/protocol-message-formats.html */
function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const AUTHENTICATION_OK = message('R', Buffer.alloc(4));
const READY_FOR_QUERY = message('Z', Buffer.from('I'));
const GOING_DOWN = message(
  'E',
  Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0'),
);

it('a server that goes down as it lets one in is an error of the statement, and ends no process', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    // In one piece, so that both are read in the same turn.
    socket.once('data', () => socket.end(Buffer.concat([AUTHENTICATION_OK, READY_FOR_QUERY, GOING_DOWN])));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const connectionString = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const pool = openPool({ connectionString, schema: 'public', max: 1, limitMs: 5000 });
  onTestFinished(() => pool.end());
  const uncaught: Error[] = [];
  const note = (error: Error) => uncaught.push(error);
  process.on('uncaughtExceptionMonitor', note);
  onTestFinished(() => void process.off('uncaughtExceptionMonitor', note));

  const client = await pool.connect();
  await expect(client.query('select 1', [])).rejects.toThrow(KeystoreError);
  client.release();
  expect(uncaught).toEqual([]);
});

it('a server that takes connections and says nothing is given up, also where statements may take their time', async () => {
  const server = createServer((socket) => void socket.on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const connectionString = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const pool = openPool({ connectionString, schema: 'public', max: 1, limitMs: null });
  onTestFinished(() => pool.end());
  await expect(pool.connect()).rejects.toThrow(KeystoreError);
});
