// Express with http-proxy-middleware and rate-limiter-flexible, put together as their documentation shows.
import express from 'express';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { readKeyTable } from './key-table.js';

const [, , port, upstream, keyFile, limit, proxy] = process.argv;
const { createProxyMiddleware } = await import(proxy);
const idOf = readKeyTable(keyFile);
const limiter = new RateLimiterMemory({ points: Number(limit), duration: 60 });
const app = express();
app.use((request, response, next) => {
  const id = idOf(request.headers['x-api-key']);
  if (id === undefined) {
    response.status(401).json({ error: 'This key is not valid.' });
    return;
  }
  delete request.headers['x-api-key'];
  request.headers['x-credential-identifier'] = id;
  limiter.consume(id).then(
    () => next(),
    () => response.status(429).json({ error: 'Too many requests.' }),
  );
});
app.use(
  createProxyMiddleware({
    target: upstream,
    xfwd: true,
  }),
);
app.listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
