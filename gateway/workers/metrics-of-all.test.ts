import { Counter, Gauge, Registry } from 'prom-client';
import { expect, it } from 'vitest';
import type { Figures } from './messages.ts';
import { MetricsOfAll } from './metrics-of-all.ts';

/** What a worker says that has answered so many requests. */
async function figures(requests: number, { up = 1, lag = 0, open = 0 } = {}): Promise<Figures> {
  const registry = new Registry();
  const registers = [registry];
  new Counter({ name: 'requests_total', help: 'Requests.', labelNames: ['status'], registers }).inc(
    { status: '2xx' },
    requests,
  );
  new Gauge({ name: 'up', help: 'Up.', aggregator: 'min', registers }).set(up);
  new Gauge({ name: 'lag_seconds', help: 'Lag.', aggregator: 'max', registers }).set(lag);
  new Gauge({ name: 'open', help: 'Open.', registers }).set(open);
  // As they arrive from another process.
  return JSON.parse(JSON.stringify(await registry.getMetricsAsJSON())) as Figures;
}

async function lines(metrics: MetricsOfAll): Promise<string[]> {
  return (await metrics.text([])).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

it('adds up what adds up, and tells the worst of what does not', async () => {
  const metrics = new MetricsOfAll();
  metrics.learn(1, await figures(3, { up: 1, lag: 0.5, open: 2 }));
  metrics.learn(2, await figures(4, { up: 0, lag: 7, open: 5 }));
  expect(await lines(metrics)).toEqual(['requests_total{status="2xx"} 7', 'up 0', 'lag_seconds 7', 'open 7']);
});

it('what a worker counted stays when it is gone; what it had at that time does not', async () => {
  const metrics = new MetricsOfAll();
  metrics.learn(1, await figures(3, { up: 0, open: 2 }));
  metrics.learn(2, await figures(4, { open: 5 }));
  metrics.gone(1);
  metrics.learn(3, await figures(1));
  metrics.gone(3);
  // Nobody asked it before it died.
  metrics.gone(4);
  expect(await lines(metrics)).toEqual(['requests_total{status="2xx"} 8', 'up 1', 'lag_seconds 0', 'open 5']);
  metrics.gone(2);
  expect(await lines(metrics)).toEqual(['requests_total{status="2xx"} 8']);
});
