// fastify with @fastify/http-proxy and @fastify/rate-limit, put together as their documentation shows.
import proxy from '@fastify/http-proxy';
import rateLimit from '@fastify/rate-limit';
import fastify from 'fastify';
import { readKeyTable } from './key-table.js';

const [, , port, upstream, keyFile, limit] = process.argv;
const idOf = readKeyTable(keyFile);
const app = fastify();
app.decorateRequest('keyId', '');
app.addHook('onRequest', (request, reply, done) => {
  const id = idOf(request.headers['x-api-key']);
  if (id === undefined) {
    reply.code(401).send({ error: 'This key is not valid.' });
    return;
  }
  request.keyId = id;
  done();
});
await app.register(rateLimit, {
  max: Number(limit),
  timeWindow: 60_000,
  cache: 20_000,
  keyGenerator: (request) => request.keyId,
});
await app.register(proxy, {
  upstream,
  undici: { connections: 512 },
  replyOptions: {
    rewriteRequestHeaders(request, headers) {
      const { 'x-api-key': _key, ...rest } = headers;
      return { ...rest, 'x-credential-identifier': request.keyId, 'x-forwarded-for': request.ip };
    },
  },
});
await app.listen({ host: '127.0.0.1', port: Number(port) });
process.on('SIGTERM', () => process.exit(0));
