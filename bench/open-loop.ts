// Sends requests at a steady rate over 64 connections, each at its time however slow the answers are, and prints how long
// they took from when they were to be sent: a late start counts as waiting, whoever it was that made it late.
// Plain sockets, and no more looked at of an answer than has to be: the API shares the core, and a client that takes most of
// it makes everyone wait, for itself.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';

const [, , url = '', keyFile = '', rate = '', seconds = ''] = process.argv;
const CONNECTIONS = 64;
/** Answers before this are not counted: this program is slow itself until V8 has compiled it. */
const WARM_UP_MS = 2000;
/** Between two looks at the clock the core is given up for this long at the most, so that the API runs on it too. */
const NAP_MS = 0.05;
/** How long the last answers may take. */
const LAST_MS = 5000;

const { hostname, port, host } = new URL(url);
const requests = readFileSync(keyFile, 'utf8')
  .trim()
  .split('\n')
  .map((key) =>
    Buffer.from(`GET /v1/items HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${key}\r\n\r\n`, 'latin1'),
  );
const interval = 1000 / Number(rate);
const total = Math.round(Number(rate) * (Number(seconds) + WARM_UP_MS / 1000));
const latencies = new Float64Array(total);
const warmUp = Math.round(WARM_UP_MS / interval);

/** All answers of the API are of one length; where the first one says which. */
let bodyLength = -1;
const HEAD_END = Buffer.from('\r\n\r\n', 'latin1');
const OK = Buffer.from('HTTP/1.1 200 ', 'latin1');
/** An answer is read in one go as a rule. What comes in parts is put together. */
const read = Buffer.allocUnsafe(64 * 1024);

type Connection = { socket: Socket; intended: number; index: number; before: Buffer | null };

const idle: Connection[] = [];
let sent = 0;
let answered = 0;
let unexpected = 0;

await Promise.all(Array.from({ length: CONNECTIONS }, open));
const begin = performance.now() + 10;
const nap = new Int32Array(new SharedArrayBuffer(4));
await new Promise<void>((resolve, reject) => {
  const giveUp = begin + total * interval + LAST_MS;
  const turn = () => {
    const now = performance.now();
    while (sent < total && idle.length > 0 && begin + sent * interval <= now) send(idle.pop() as Connection);
    if (answered === total) resolve();
    else if (now > giveUp) reject(new Error(`${total - answered} of ${total} requests were not answered`));
    else {
      // Without a free connection, or when all was sent, there is nothing to do before the API has run.
      const wait = sent === total || idle.length === 0 ? NAP_MS : begin + sent * interval - performance.now();
      if (wait > 0) Atomics.wait(nap, 0, 0, Math.min(NAP_MS, wait));
      setImmediate(turn);
    }
  };
  turn();
});
/** Of those that were to be sent in the same second: what happens once in a while is seen as what it is. */
const bySecond = Array.from({ length: Number(seconds) }, (_, second) =>
  latencies.slice(warmUp + second * Number(rate), warmUp + (second + 1) * Number(rate)).sort(),
);
const quantiles = (q: number) =>
  bySecond.map((sorted) => sorted[Math.floor(sorted.length * q)] ?? Number.NaN);
process.stdout.write(JSON.stringify({ unexpected, p50: quantiles(0.5), p99: quantiles(0.99) }));
process.exit(0);

async function open(): Promise<void> {
  const socket = connect({
    host: hostname,
    port: Number(port),
    noDelay: true,
    onread: {
      buffer: read,
      callback: (length) => {
        onData(connection, read.subarray(0, length));
        return true;
      },
    },
  });
  const connection: Connection = { socket, intended: 0, index: 0, before: null };
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('close', () => {
    throw new Error('A connection was closed');
  });
  idle.push(connection);
}

function send(connection: Connection): void {
  connection.index = sent++;
  connection.intended = begin + connection.index * interval;
  connection.socket.write(requests[connection.index % requests.length] as Buffer);
}

/** One request at a time is on a connection, so what comes is its answer. */
function onData(connection: Connection, bytes: Buffer): void {
  const { before } = connection;
  const answer = before === null ? bytes : Buffer.concat([before, bytes]);
  const head = answer.indexOf(HEAD_END);
  if (bodyLength < 0 && head > 0) {
    const text = answer.toString('latin1', 0, head + 2);
    bodyLength = Number(/\r\ncontent-length: *(\d+)\r\n/i.exec(text)?.[1]);
    if (!(bodyLength > 0)) throw new Error(`An answer without a length: ${text}`);
  }
  const missing = head < 0 ? 1 : head + 4 + bodyLength - answer.length;
  if (missing > 0) {
    connection.before = Buffer.from(answer);
    return;
  }
  if (missing < 0 || !answer.subarray(0, OK.length).equals(OK)) unexpected++;
  latencies[connection.index] = performance.now() - connection.intended;
  connection.before = null;
  answered++;
  idle.push(connection);
}
