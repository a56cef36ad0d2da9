import { Counter, Gauge, type Registry } from 'prom-client';
import type { WebSockets } from '../websockets/websockets.ts';
import type { Connections } from './connections.ts';

/** Adds what is known of clients' connections to the metrics. */
export function registerConnectionMetrics(
  registry: Registry,
  connections: Pick<Connections, 'count' | 'turnedAway'>,
  websockets: Pick<WebSockets, 'count'>,
): void {
  new Gauge({
    name: 'tollgate_gateway_connections_open',
    help: 'Connections of clients.',
    registers: [registry],
    collect() {
      this.set(connections.count);
    },
  });
  new Counter({
    name: 'tollgate_gateway_connections_turned_away_total',
    help: 'Connections answered with 503 because there were too many.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(connections.turnedAway);
    },
  });
  new Gauge({
    name: 'tollgate_gateway_websockets_open',
    help: 'WebSockets under way.',
    registers: [registry],
    collect() {
      this.set(websockets.count);
    },
  });
}
