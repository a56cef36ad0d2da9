import { Counter, Gauge, type Registry } from 'prom-client';
import type { CounterServer } from './counter-server.ts';
import type { SharedWindows } from './shared-windows.ts';

const NAMES = { redis: 'Redis', primary: 'the primary process' } as const;

/** What there is to know of limits that are counted elsewhere. Read when somebody asks. */
export function registerCounterMetrics(
  registry: Registry,
  server: Pick<CounterServer, 'name' | 'up'>,
  { decided }: SharedWindows,
): void {
  new Gauge({
    name: `tollgate_gateway_${server.name}_up`,
    help: `Whether ${NAMES[server.name]} answers (1) or limits are decided without it (0).`,
    aggregator: 'min',
    registers: [registry],
    collect() {
      this.set(server.up ? 1 : 0);
    },
  });
  new Counter({
    name: 'tollgate_gateway_limit_decisions_total',
    help: `Decisions on rate limits, by who made them: ${NAMES[server.name]} for all gateways, this one alone, or nobody.`,
    labelNames: ['by'],
    registers: [registry],
    collect() {
      this.reset();
      this.inc({ by: server.name }, decided.shared);
      this.inc({ by: 'this_gateway' }, decided.local);
      this.inc({ by: 'nobody' }, decided.unavailable);
    },
  });
}
