import { openKeystore } from '../keystore/keystore.ts';
import { loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { runService } from '../shared/service.ts';
import { startDemoUpstream } from './demo-upstream.ts';
import { configuredRoutes, namesOf } from './routes/routes-file.ts';
import { startGateway } from './server.ts';

/** `npm run gateway`: the gateway as a process of its own. */
await runService(async () => {
  const config = loadConfig(process.env, 'gateway');
  const log = createLogger({ level: config.logLevel });
  // Mistakes in it are found before anything is started.
  const routes = config.routesFile === null ? null : configuredRoutes(config, process.env);
  const keystore = await openKeystore({
    url: config.keystoreUrl,
    serverSecret: config.serverSecret,
    keyHash: config.keyHash,
    revealTtlMs: config.revealTtlMs,
    log,
  });
  const demo =
    routes === null && config.upstreamUrl === null
      ? await startDemoUpstream({ host: '127.0.0.1', port: 0 })
      : null;
  const upstreamUrl = config.upstreamUrl ?? demo?.url ?? null;
  const gateway = await startGateway({
    config: { ...config, upstreamUrl },
    ...(routes === null ? {} : { routes }),
    keystore,
    log,
  });
  const one = demo ? `the built-in demo API at ${demo.url} (set UPSTREAM_URL to yours)` : upstreamUrl;
  const guarded = routes === null ? one : `${namesOf(routes)} (routes of ${config.routesFile})`;
  return {
    message: `The gateway listens at ${gateway.url} and guards ${guarded}. Metrics: ${gateway.internalUrl}/metrics`,
    drainMs: config.stopDelayMs + config.drainMs,
    refresh() {
      gateway.reopenLogs();
      gateway.reloadRoutes();
    },
    async close() {
      await gateway.close();
      await demo?.close();
      await keystore.close();
    },
  };
});
