// Sends requests at a steady rate over 64 connections, each at its time however slow the answers are, and prints how long
// they took from when they were to be sent: a late start counts as waiting, whoever it was that made it late.
// Plain sockets: a client library would cost more than what is measured.
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

type Connection = { socket: Socket; intended: number; index: number; received: string };

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
      const wait = begin + sent * interval - performance.now();
      if (wait > 0) Atomics.wait(nap, 0, 0, Math.min(NAP_MS, wait));
      setImmediate(turn);
    }
  };
  turn();
});
const counted = latencies.subarray(warmUp).sort();
const quantile = (q: number) => counted[Math.min(counted.length - 1, Math.floor(counted.length * q))] ?? 0;
process.stdout.write(
  JSON.stringify({ requests: counted.length, unexpected, p50: quantile(0.5), p99: quantile(0.99) }),
);
process.exit(0);

async function open(): Promise<void> {
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  const connection: Connection = { socket, intended: 0, index: 0, received: '' };
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('data', (chunk) => onData(connection, chunk.toString('latin1')));
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
function onData(connection: Connection, text: string): void {
  connection.received = connection.received === '' ? text : connection.received + text;
  const { received } = connection;
  const head = received.indexOf('\r\n\r\n');
  if (head < 0) return;
  const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(received)?.[1];
  if (length === undefined) throw new Error(`An answer without a length: ${received}`);
  if (received.length < head + 4 + Number(length)) return;
  if (!received.startsWith('HTTP/1.1 200 ')) unexpected++;
  latencies[connection.index] = performance.now() - connection.intended;
  connection.received = '';
  answered++;
  idle.push(connection);
}
