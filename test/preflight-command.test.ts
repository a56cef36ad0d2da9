import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CHECKS, type Result } from '../billing/preflight/preflight.ts';
import { liveEnvironment, type PreflightRig, startPreflightRig } from './preflight.ts';
import { type Faults, faultsOf } from './preflight-faults.ts';
import { runProgram } from './processes.ts';

let rig: PreflightRig;
let faults: Faults;
beforeAll(async () => {
  rig = await startPreflightRig();
  faults = faultsOf(rig);
});
afterAll(() => rig.close());

const preflight = (env: Record<string, string>, ...args: string[]) =>
  runProgram('scripts/preflight.ts', env, args);

it('prints each check with its remedy; the exit code says go or stop', async () => {
  const go = await preflight(rig.environment, '--mode', 'test');
  expect(go, go.output).toMatchObject({ code: 0, output: expect.stringContaining('\nGO: ') });
  for (const { title } of CHECKS) expect(go.output).toContain(` ${title}\n`);

  const { mend } = await faults.withoutPortal('subscription_cancel');
  const stopped = await preflight(rig.environment, '--mode', 'test', '--json');
  await mend?.();
  expect(stopped.code, stopped.output).toBe(1);
  const { outcome, checks } = JSON.parse(stopped.output) as { outcome: string; checks: Result[] };
  expect(outcome).toBe('stop');
  expect(checks.filter(({ verdict }) => verdict === 'stop').map(({ id }) => id)).toEqual(['portal']);
});

it('behind HTTPS, there is nothing to warn of but a folder for temporary files and what nobody approved', async () => {
  const secure = await startPreflightRig({ secure: true });
  const run = await preflight(
    { ...secure.environment, NODE_EXTRA_CA_CERTS: resolve('test/certificates/ca.pem') },
    '--mode',
    'test',
    '--json',
  );
  await secure.close();
  expect(run.code, run.output).toBe(0);
  const { checks } = JSON.parse(run.output) as { checks: Result[] };
  expect(checks.filter(({ verdict }) => verdict !== 'ok').map(({ id }) => id)).toEqual([
    'keystore',
    'attestations',
  ]);
});

it.each([
  [[], 2, "required option '--mode <mode>' not specified"],
  [['--mode', 'both'], 2, 'Allowed choices are test, live'],
  [['--mode', 'live'], 1, 'STRIPE_SECRET_KEY is a test key, and this is about live mode.'],
  [['--help'], 0, '--repair'],
])('%j: exit code %i', async (args, code, text) => {
  expect(await preflight(rig.environment, ...args)).toMatchObject({
    code,
    output: expect.stringContaining(text),
  });
});

it('looks at a live account only when that was allowed', async () => {
  const env = liveEnvironment();
  expect(await preflight(env, '--mode', 'live')).toMatchObject({
    code: 2,
    output: expect.stringContaining('Set ALLOW_LIVE_PREFLIGHT=true'),
  });
});
