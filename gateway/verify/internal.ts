import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Registry } from 'prom-client';
import type { Why } from '../why.ts';
import type { Verify } from './verify.ts';
import { verifyFormOf } from './verify-request.ts';

/** Proxies keep idle connections for 60 s; they are to close first. */
const IDLE_MS = 65_000;
/** A proxy may hand on all that its client sent, and adds to it. */
const HEAD_BYTES = 64 * 1024;

/**
 * The listener for those who run the gateway: its metrics, what their proxies ask, and what would become of a request. Loopback by default; it asks for
 * no key.
 *
 * @param metrics all there are, in the format of Prometheus
 */
export function createInternalServer(metrics: () => Promise<string>, verify: Verify, why: Why): Server {
  const options = { keepAliveTimeout: IDLE_MS, maxHeaderSize: HEAD_BYTES, requireHostHeader: false };
  return createServer(options, (req, res) => {
    const form = verifyFormOf(req.url as string);
    if (form === null) void answer(req, res, metrics, why);
    else verify(form, req, res);
  });
}

async function answer(
  req: IncomingMessage,
  res: ServerResponse,
  metrics: () => Promise<string>,
  why: Why,
): Promise<void> {
  const path = (req.url as string).split('?', 1)[0];
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    res.writeHead(405, { Allow: 'GET, HEAD' }).end();
    return;
  }
  if (path === '/health') {
    res.writeHead(200, { 'Content-Type': 'application/json' }).end('{"status":"ok"}');
    return;
  }
  if (path === '/why') {
    await why(req, res);
    return;
  }
  if (path !== '/metrics') {
    res.writeHead(404).end();
    return;
  }
  try {
    const text = await metrics();
    res.writeHead(200, { 'Content-Type': Registry.PROMETHEUS_CONTENT_TYPE }).end(text);
  } catch {
    res.writeHead(500).end();
  }
}

/** Stops accepting, lets what is under way finish, and cuts off what takes longer than `limitMs`. */
export async function stopInternal(server: Server, limitMs: number): Promise<void> {
  if (!server.listening) return;
  const late = setTimeout(() => server.closeAllConnections(), limitMs);
  await new Promise((resolve) => server.close(resolve));
  clearTimeout(late);
}
