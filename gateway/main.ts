import { loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { runService } from '../shared/service.ts';
import { startDemoUpstream } from './demo-upstream.ts';
import { startOnKeystore } from './on-keystore.ts';
import { configuredRoutes, namesOf } from './routes/routes-file.ts';
import { startWorkers } from './workers/workers.ts';

/** By how much longer all workers together may take to stop than one of them, milliseconds. */
const WORKERS_STOP_MS = 1000;

/** `npm run gateway`: the gateway as a process of its own, or as several. */
await runService(async () => {
  const config = loadConfig(process.env, 'gateway');
  const log = createLogger({ level: config.logLevel });
  // Mistakes in it are found before anything is started.
  const routes = config.routesFile === null ? null : configuredRoutes(config, process.env);
  const demo =
    routes === null && config.upstreamUrl === null
      ? await startDemoUpstream({ host: '127.0.0.1', port: 0 })
      : null;
  const upstreamUrl = config.upstreamUrl ?? demo?.url ?? null;
  const gateway =
    config.workers === 1
      ? await startOnKeystore({
          config: { ...config, upstreamUrl },
          ...(routes === null ? {} : { routes }),
          log,
        })
      : await startWorkers({
          count: config.workers,
          env: demo === null ? {} : { UPSTREAM_URL: demo.url },
          log,
        });
  const one = demo ? `the built-in demo API at ${demo.url} (set UPSTREAM_URL to yours)` : upstreamUrl;
  const guarded = routes === null ? one : `${namesOf(routes)} (routes of ${config.routesFile})`;
  return {
    message: `The gateway listens at ${gateway.url} and guards ${guarded}. Metrics: ${gateway.internalUrl}/metrics`,
    drainMs: config.stopDelayMs + config.drainMs + (config.workers === 1 ? 0 : WORKERS_STOP_MS),
    refresh: () => gateway.refresh(),
    async close() {
      await gateway.close();
      await demo?.close();
    },
  };
});
