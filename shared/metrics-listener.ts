import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import { urlHost } from './config.ts';
import type { Logger } from './log.ts';

export type MetricsListener = { url: string; port: number; close(): Promise<void> };

/**
 * Serves metrics for those who run the service, apart from what its customers reach. It asks for no key.
 *
 * @param options.metrics all there are, in the format of Prometheus
 * @throws the system's error when the port cannot be had
 */
export async function startMetricsListener(options: {
  host: string;
  port: number;
  metrics(): Promise<string>;
  log: Logger;
}): Promise<MetricsListener> {
  const { host, log } = options;
  const server = createServer(async (req, res) => {
    const path = (req.url as string).split('?', 1)[0];
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      res.writeHead(405, { Allow: 'GET, HEAD' }).end();
    } else if (path === '/health') {
      res.writeHead(200, { 'Content-Type': 'application/json' }).end('{"status":"ok"}');
    } else if (path !== '/metrics') {
      res.writeHead(404).end();
    } else {
      try {
        const text = await options.metrics();
        res.writeHead(200, { 'Content-Type': Registry.PROMETHEUS_CONTENT_TYPE }).end(text);
      } catch (error) {
        log.error({ err: error }, 'The metrics cannot be told');
        res.writeHead(500).end();
      }
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${urlHost(host)}:${port}`,
    port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
