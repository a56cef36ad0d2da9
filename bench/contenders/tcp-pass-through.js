// The least any Node proxy can do: bytes from one socket to another, an upstream connection for each of the client's.
import { connect, createServer } from 'node:net';

const [, , port, upstream] = process.argv;
const [host, upstreamPort] = upstream.split(':');
const server = createServer({ noDelay: true }, (client) => {
  const api = connect({ host, port: Number(upstreamPort), noDelay: true });
  client.on('data', (chunk) => api.write(chunk));
  api.on('data', (chunk) => client.write(chunk));
  for (const [one, other] of [
    [client, api],
    [api, client],
  ]) {
    one.on('close', () => other.destroy());
    one.on('error', () => other.destroy());
  }
});
server.listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
