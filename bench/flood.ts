// Sends requests with the keys of a file at a steady rate over its own connections, one at a time on each, and prints how
// many were answered, as JSON. Whatever is late because no connection is free is not sent later.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';

const [, , url = '', keyFile = '', rate = '', seconds = '', from = '127.0.0.1'] = process.argv;
const CONNECTIONS = 64;
const TURN_MS = 5;

const { hostname, port, host } = new URL(url);
const requests = readFileSync(keyFile, 'utf8')
  .trim()
  .split('\n')
  .map((key) =>
    Buffer.from(`GET /v1/items HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${key}\r\n\r\n`, 'latin1'),
  );
const idle: Socket[] = [];
let next = 0;
let answered = 0;
let admitted = 0;

for (let i = 0; i < CONNECTIONS; i++) {
  const socket = connect({ host: hostname, port: Number(port), localAddress: from, noDelay: true });
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.on('data', (chunk) => {
    // An answer of this size comes whole, and so does its head.
    const text = chunk.toString('latin1');
    if (!text.startsWith('HTTP/1.1 ')) return;
    answered++;
    if (!text.startsWith('HTTP/1.1 4')) admitted++;
    idle.push(socket);
  });
  socket.on('close', () => {
    throw new Error('A connection was closed');
  });
  idle.push(socket);
}
const begun = performance.now();
let due = 0;
const timer = setInterval(() => {
  const elapsed = performance.now() - begun;
  const until = (elapsed / 1000) * Number(rate);
  for (; due < until; due++) {
    const socket = idle.pop();
    if (socket !== undefined) socket.write(requests[next++ % requests.length] as Buffer);
  }
  if (elapsed < Number(seconds) * 1000) return;
  clearInterval(timer);
  if (admitted > 0) throw new Error(`${admitted} wrong keys were admitted`);
  process.stdout.write(JSON.stringify({ perSecond: answered / (elapsed / 1000) }));
  process.exit(0);
}, TURN_MS);
