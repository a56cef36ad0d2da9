import { Counter, Gauge, type Registry } from 'prom-client';
import type { Lane } from './lane.ts';

/** What went through the lane and what did not, for Prometheus. */
export function registerLaneMetrics(
  registry: Registry,
  lane: Pick<Lane, 'taken' | 'handedOver' | 'keptBytes'>,
): void {
  new Counter({
    name: 'tollgate_gateway_fast_lane_requests_total',
    help: 'Requests that came in the fast lane.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(lane.taken);
    },
  });
  new Counter({
    name: 'tollgate_gateway_fast_lane_handed_over_total',
    help: 'Connections that went on outside the fast lane, by why.',
    labelNames: ['why'],
    registers: [registry],
    collect() {
      this.reset();
      for (const [why, count] of Object.entries(lane.handedOver)) this.inc({ why }, count);
    },
  });
  new Gauge({
    name: 'tollgate_gateway_fast_lane_bytes',
    help: 'Bytes of requests in several packets that are kept for the fast lane, or will be when they are here.',
    registers: [registry],
    collect() {
      this.set(lane.keptBytes);
    },
  });
}
