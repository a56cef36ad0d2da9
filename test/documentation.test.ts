import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { EVENT_KINDS } from '../billing/stripe-events.ts';
import { variables } from '../shared/config-variables.ts';
import { loadPlans } from '../shared/plans.ts';
import { PROBLEM_STATUSES } from '../shared/problems.ts';
import { temporaryFolder } from './keystores.ts';

const readme = readFileSync('README.md', 'utf8');
const example = readFileSync('.env.example', 'utf8');
const SECRET_FILES = [
  'STRIPE_SECRET_KEY',
  'STRIPE_WEBHOOK_SECRET',
  'TOLLGATE_SECRET',
  'KEYSTORE_URL',
  'REDIS_URL',
  'SMTP_URL',
  'LICENSING_KEYS',
];
const PLAN_VARIABLES = [
  'STRIPE_PRICE_MAP',
  'PRICE_ID_<PLAN>',
  'PRICE_ID_<LIVE|TEST>_<PLAN>',
  'RATE_LIMIT_<PLAN>',
];

it.each([...Object.keys(variables), ...PLAN_VARIABLES])(
  '%s is explained in the README and in .env.example',
  (name) => {
    expect(readme).toContain(`| \`${name.replace('|', '\\|')}\``);
    expect(example).toContain(name);
  },
);

it.each(SECRET_FILES)('%s can be given as a file, and .env.example says so', (name) => {
  expect(example).toContain(`# ${name}_FILE=`);
});

it('.env.example sets nothing and holds nothing like a secret', () => {
  for (const line of example.split('\n')) expect(line).toMatch(/^(#.*)?$/);
  expect(example).not.toMatch(/(sk|rk)_(live|test)_[0-9A-Za-z]{8,}|whsec_[0-9A-Za-z]{8,}/);
});

it.each(Object.entries(PROBLEM_STATUSES))(
  'the problem %s is in the README, with its status',
  (code, status) => {
    const rows = readme.split('\n').filter((row) => row.startsWith('|') && row.includes(`\`${code}\``));
    const withStatus = new RegExp(`^\\| *\\w* *\\| *${status} *\\|`);
    expect(
      rows.some((row) => row.includes(`\`${code}\` ${status}`) || withStatus.test(row)),
      rows.join('\n'),
    ).toBe(true);
  },
);

it('the README names no command that package.json does not have', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const named = [...readme.matchAll(/npm run ([a-z:-]+)/g)].map((match) => match[1] as string);
  expect(named.length).toBeGreaterThan(5);
  for (const name of named) expect(scripts, name).toHaveProperty(name);
});

it('the README names every event that the webhook endpoint needs, and no other', () => {
  const [, list = ''] = /^- Events:\n([\s\S]*?)\n\n/m.exec(readme) ?? [];
  const named = [...list.matchAll(/`([a-z_.]+)`/g)].map(([, type]) => type);
  expect(named.sort()).toEqual(Object.keys(EVENT_KINDS).sort());
});

it('the plans of docs/licences.md are ones', () => {
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(readFileSync('docs/licences.md', 'utf8')) ?? [];
  const file = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(file, yaml);
  const { catalogue, problems } = loadPlans({}, file, true);
  expect(problems).toEqual([]);
  expect(catalogue.plan('pro')).toMatchObject({
    features: ['export', 'projects'],
    featureValues: { projects: 10 },
    licence: {
      devices: 3,
      freeAfterMs: null,
      trialDays: 14,
      tokenTtlMs: 86_400_000,
      offlineGraceMs: 259_200_000,
    },
  });
  expect(catalogue.plan('team')?.licence).toMatchObject({ devices: 10, freeAfterMs: 900_000 });
});
