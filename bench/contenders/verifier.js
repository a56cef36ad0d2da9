// The least a verifier for auth_request can be: node:http, keys by their SHA-256, a count for each in a window of a
// minute. What nginx makes of its answers: 200 goes on, 401 is the client's, 403 stands for 429.
import { createServer } from 'node:http';
import { readKeyTable } from './key-table.js';

const [, , port, keyFile, limit] = process.argv;
const idOf = readKeyTable(keyFile);
let window = 0;
let counts = new Map();
const server = createServer((request, response) => {
  const id = idOf(request.headers['x-api-key']);
  if (id === undefined) {
    answer(response, 401, '');
    return;
  }
  const now = Math.floor(Date.now() / 60_000);
  if (now !== window) {
    window = now;
    counts = new Map();
  }
  const count = (counts.get(id) ?? 0) + 1;
  counts.set(id, count);
  answer(response, count > Number(limit) ? 403 : 200, id);
});

function answer(response, status, id) {
  // Without a length the answer would be chunked, and nginx would use the connection for nothing more.
  response.writeHead(status, ['X-Credential-Identifier', id, 'Content-Length', '0']).end();
}

server.keepAliveTimeout = 60_000;
server.listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
