// The API behind every contender where there is no nginx.
import { createServer } from 'node:http';
import { ANSWER, LARGE_BYTES, LARGE_PATH } from './origin.ts';

const large = Buffer.alloc(LARGE_BYTES);
const small = Buffer.from(ANSWER);
const server = createServer((req, res) => {
  req.resume();
  const body = req.url === LARGE_PATH ? large : small;
  req.once('end', () => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length }).end(body);
  });
});
server.keepAliveTimeout = 600_000;
server.listen(Number(process.argv[2]), '127.0.0.1');
