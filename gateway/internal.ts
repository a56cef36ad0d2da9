import { createServer, type Server } from 'node:http';
import type { Metrics } from './metrics.ts';

/** The listener for those who run the gateway: its metrics. Loopback by default; it asks for no key. */
export function createInternalServer(metrics: Metrics): Server {
  return createServer(async (req, res) => {
    const path = (req.url as string).split('?', 1)[0];
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      res.writeHead(405, { Allow: 'GET, HEAD' }).end();
      return;
    }
    if (path === '/health') {
      res.writeHead(200, { 'Content-Type': 'application/json' }).end('{"status":"ok"}');
      return;
    }
    if (path !== '/metrics') {
      res.writeHead(404).end();
      return;
    }
    try {
      const text = await metrics.registry.metrics();
      res.writeHead(200, { 'Content-Type': metrics.registry.contentType }).end(text);
    } catch {
      res.writeHead(500).end();
    }
  });
}
