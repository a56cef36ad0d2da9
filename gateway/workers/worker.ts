import cluster from 'node:cluster';
import { loadConfig } from '../../shared/config.ts';
import { createLogger } from '../../shared/log.ts';
import { endService, type RunningService, startFailure } from '../../shared/service.ts';
import { type GatewayOnKeystore, startOnKeystore } from '../on-keystore.ts';
import { Primary } from './primary.ts';
import { PrimaryCounter } from './primary-counter.ts';

/*
 * One of several processes of the gateway, started by `workers.ts`. It does what the primary says. Signals go to the primary: a
 * terminal or a service manager sends them to all processes at once.
 */

let gateway: GatewayOnKeystore | undefined;
let service: RunningService | undefined;
let stopAsked = false;
let refreshAsked = false;

const stop = () => {
  // Whoever has not started yet has nothing to finish, and is not to open ports that the others have closed.
  if (service === undefined) process.exit(0);
  if (!stopAsked) void endService(service);
  stopAsked = true;
};
const primary = new Primary({
  stop,
  refresh() {
    if (service) service.refresh?.();
    refreshAsked = true;
  },
  figures: async () => (await gateway?.figures()) ?? [],
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
cluster.worker?.on('disconnect', () => {
  // The primary died. Without this, the library ends the process here and now, with usage that is not written yet.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  stop();
});

try {
  const config = loadConfig(process.env, 'gateway');
  const log = createLogger({ level: config.logLevel }).child({ worker: cluster.worker?.id });
  const started = await startOnKeystore({
    config,
    log,
    workers: {
      counter: config.redisUrl === null ? new PrimaryCounter((calls) => primary.count(calls), log) : null,
      metrics: () => primary.metrics(),
    },
  });
  gateway = started;
  service = {
    message: '',
    drainMs: config.stopDelayMs + config.drainMs,
    refresh: () => started.refresh(),
    close: () => started.close(),
  };
} catch (error) {
  const { exitCode = 1 } = error as { exitCode?: number };
  await primary.send({ kind: 'failed', reason: startFailure(error), exitCode }).catch(() => {});
  process.exit(exitCode);
}
const { url, internalUrl } = gateway;
// A primary that is gone has this process stop.
await primary.send({ kind: 'listening', url, internalUrl }).catch(() => {});
if (refreshAsked) service.refresh?.();
