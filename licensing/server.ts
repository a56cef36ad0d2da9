import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { Registry } from 'prom-client';
import { type Keystore, keystoreProblem } from '../keystore/keystore.ts';
import { type Config, ConfigError, urlHost } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { startMetricsListener } from '../shared/metrics-listener.ts';
import { ProblemError } from '../shared/problems.ts';
import { answerProblems, requestLog } from '../shared/request-answers.ts';
import { requestMetrics } from '../shared/request-metrics.ts';
import { securityHeaders } from '../shared/security-headers.ts';
import { licensingRoutes } from './routes.ts';

const DRAIN_MS = 1500;

export type LicensingServer = {
  url: string;
  port: number;
  /** Where its metrics are. */
  internalUrl: string;
  /** Finishes requests under way (1.5 s at most), then stops. Does not close the keystore. */
  close(): Promise<void>;
};

/**
 * Starts licensing alone, on `config.licensingPort`; its metrics on `config.licensingInternalPort`.
 *
 * @throws ConfigError when no plan grants devices
 */
export async function startLicensing(options: {
  config: Config;
  keystore: Keystore;
  log: Logger;
}): Promise<LicensingServer> {
  const { config, keystore } = options;
  const log = options.log.child({ room: 'licensing' });
  const registry = new Registry();
  const routes = await licensingRoutes({ ...options, registry });
  if (!routes) {
    throw new ConfigError([
      {
        variable: 'PLANS_FILE',
        message: 'has no plan that grants devices, so there are no licences to serve',
        example: 'devices: 3 in a plan',
      },
    ]);
  }
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', [...config.trustedProxyList]);
  app.set('query parser', 'simple');
  app.use(
    requestLog(log),
    requestMetrics(registry, 'licensing'),
    ...securityHeaders(config.publicLicensingUrl.startsWith('https:')),
    routes,
  );
  app.get(['/health', '/ready'], async (_request, response) => {
    await keystore.checkReadable();
    response.json({ status: 'ok', keystore: 'readable' });
  });
  app.use(() => {
    throw new ProblemError('not_found', 'There is nothing at this address.');
  });
  app.use(answerProblems(log, keystoreProblem));
  const server = createServer(app);
  const internal = await startMetricsListener({
    host: config.internalHost,
    port: config.licensingInternalPort,
    metrics: () => registry.metrics(),
    log,
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.licensingPort, config.host, resolve);
  }).catch(async (error: unknown) => {
    await internal.close();
    throw error;
  });
  const { port } = server.address() as AddressInfo;
  log.info({ port }, 'Licensing listens');
  return {
    url: `http://${urlHost(config.host)}:${port}`,
    port,
    internalUrl: internal.url,
    async close() {
      await internal.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await closed;
      clearTimeout(cut);
    },
  };
}
