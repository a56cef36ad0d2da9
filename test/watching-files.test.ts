import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { BillingUnderTest } from './billing.ts';
import { closeAll, closeLater, startTestGateway } from './gateways.ts';
import { newKeystoreUrl, SERVER_SECRET, temporaryFolder } from './keystores.ts';
import { startLicensingUnderTest } from './licences.ts';
import { startProgramUntil } from './processes.ts';

type Rule = { alert: string; expr: string; labels: { severity: string }; annotations: { summary: string } };
type Panel = { type: string; title: string; targets?: { expr: string }[] };

const rules = (
  parse(readFileSync('docker/prometheus/alerts.yaml', 'utf8')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules);
const { panels } = JSON.parse(readFileSync('docker/grafana/dashboard.json', 'utf8')) as { panels: Panel[] };
const document = readFileSync('docs/watching.md', 'utf8');

/** Names of metrics that are told somewhere, those of a histogram's parts included. */
const told = new Set<string>();
let billing: BillingUnderTest;

beforeAll(async () => {
  billing = await startLicensingUnderTest();
  const file = join(temporaryFolder(), 'routes.yaml');
  writeFileSync(file, 'routes:\n  - { name: all, path: /, upstreams: ["http://127.0.0.1:1"] }\n');
  const routes = { ROUTES_FILE: file, UPSTREAM_URL: '' };
  // One of several workers, and one that shares its limits through a Redis, which is away.
  const workers = await startProgramUntil(/listens at/, 'gateway/main.ts', {
    ...routes,
    GATEWAY_WORKERS: '2',
    KEYSTORE_URL: newKeystoreUrl(),
    TOLLGATE_SECRET: SERVER_SECRET,
    GATEWAY_PORT: '0',
    INTERNAL_PORT: '0',
  });
  closeLater({ close: async () => void (await workers.stop()) });
  const gateway = await startTestGateway({ env: { ...routes, REDIS_URL: 'redis://127.0.0.1:1' } });
  const [, ofWorkers = ''] = /Metrics: (\S+)/.exec(workers.output()) ?? [];
  for (const url of [`${gateway.internalUrl}/metrics`, `${billing.internalUrl}/metrics`, ofWorkers]) {
    for (const [, name, type] of (await (await fetch(url)).text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
      const parts = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      for (const part of parts) told.add(name + part);
      if (type === 'histogram') told.add(name as string);
    }
  }
});
afterAll(async () => {
  await billing?.close();
  await closeAll();
});

/** Whether the parser had to skip or make up something. */
function faultIn(expression: string): boolean {
  let fault = false;
  parser.parse(expression).iterate({
    enter: ({ type }) => {
      fault ||= type.isError;
    },
  });
  return fault;
}

const namesIn = (text: string) =>
  new Set([...text.matchAll(/tollgate_[a-z]+_[a-z_]+/g)].map(([name]) => name));

it('every expression is one that Prometheus understands', () => {
  const expressions = [
    ...rules.map(({ alert, expr }) => [alert, expr] as const),
    ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const)),
  ];
  expect(faultIn('sum(rate(x[5m])')).toBe(true);
  for (const [of, expr] of expressions) {
    // What Grafana puts into its place is a length of time.
    expect(faultIn(expr.replaceAll('$__rate_interval', '5m')), `${of}: ${expr}`).toBe(false);
  }
});

it('every metric that an alert rule names is told by somebody', () => {
  for (const { alert, expr } of rules) {
    for (const name of namesIn(expr)) expect(told, `${alert}: ${name}`).toContain(name);
  }
});

it('every metric on the dashboard is told by somebody, and every panel shows one', () => {
  const shown = panels.filter(({ type }) => type !== 'row');
  expect(shown.length).toBeGreaterThan(20);
  for (const { title, targets = [] } of shown) {
    const names = namesIn(targets.map(({ expr }) => expr).join(' '));
    expect(names.size, title).toBeGreaterThan(0);
    for (const name of names) expect(told, `${title}: ${name}`).toContain(name);
  }
});

it('every metric that docs/watching.md names is told by somebody', () => {
  const named = namesIn(document);
  expect(named.size).toBeGreaterThan(15);
  for (const name of named) if (!name.endsWith('_')) expect(told, name).toContain(name);
});

it('every alert is explained in docs/watching.md, and no other', () => {
  const explained = [...document.matchAll(/^\| `(Tollgate\w+)`/gm)].map(([, name]) => name);
  expect(explained.sort()).toEqual(rules.map(({ alert }) => alert).sort());
  for (const { labels, annotations } of rules) {
    expect(['critical', 'warning']).toContain(labels.severity);
    expect(annotations.summary.length).toBeGreaterThan(10);
  }
});

it('each rule that wakes somebody is among those to be woken for', () => {
  const [, woken = ''] = /## What to be woken for([\s\S]*?)\n## /.exec(document) ?? [];
  const critical = rules.filter(({ labels }) => labels.severity === 'critical').map(({ alert }) => alert);
  expect([...woken.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name).sort()).toEqual(critical.sort());
});

it('no label of any metric can hold a key, an address or an id', async () => {
  const text = await (await fetch(`${billing.internalUrl}/metrics`)).text();
  const labels = new Set([...text.matchAll(/[{,]([a-z_]+)="/g)].map(([, name]) => name));
  expect([...labels].filter((name) => /key|mail|address|customer|_id$/.test(name as string))).toEqual([]);
});
