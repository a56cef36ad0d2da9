import { type Aggregator, Counter, Gauge, type Registry } from 'prom-client';
import type { Route, Routes } from '../routes/routes.ts';
import type { Target } from './upstream-group.ts';

/** What is known of the servers behind the routes, read when somebody asks. Servers are named by their origins. */
export function registerUpstreamMetrics(registry: Registry, routes: Pick<Routes, 'all'>): void {
  /** @param together what several processes say together */
  const perServer = (
    name: string,
    help: string,
    read: (server: Target) => number,
    together: Aggregator = 'sum',
  ) =>
    new Gauge({
      name,
      help,
      aggregator: together,
      labelNames: ['route', 'server'],
      registers: [registry],
      collect() {
        this.reset();
        for (const { name: route, group } of withServers(routes.all)) {
          for (const target of group.targets) this.set({ route, server: target.origin }, read(target));
        }
      },
    });
  perServer(
    'tollgate_gateway_upstream_healthy',
    'Whether a server is used: 0 when health checks or the requests sent to it say that it does not answer.',
    ({ healthy, circuit }) => (healthy && circuit.state === 'closed' ? 1 : 0),
    'min',
  );
  perServer('tollgate_gateway_upstream_pending', 'Requests under way.', ({ pending }) => pending);
  perServer(
    'tollgate_gateway_upstream_connections',
    'Connections, idle ones too.',
    ({ connections }) => connections,
  );
  new Gauge({
    name: 'tollgate_gateway_upstream_waiting',
    help: 'Requests that wait for a connection to a server.',
    labelNames: ['route'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name: route, group } of withServers(routes.all)) this.set({ route }, group.waiting);
    },
  });
  new Counter({
    name: 'tollgate_gateway_upstream_retries_total',
    help: 'Requests that were sent once more.',
    labelNames: ['route'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name: route, group } of withServers(routes.all)) this.inc({ route }, group.retries);
    },
  });
}

/** Routes that share their servers are told of once, by the first of them: a sum over routes counts nothing twice. */
function withServers(routes: readonly Route[]): Route[] {
  const groups = new Set<Route['group']>();
  return routes.filter(({ group }) => !groups.has(group) && groups.add(group));
}
