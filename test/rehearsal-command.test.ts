import { afterAll, beforeAll, expect, it } from 'vitest';
import { STEPS } from '../billing/rehearsal/rehearsal.ts';
import { licencePlansFile } from './licences.ts';
import { liveEnvironment, type PreflightRig, startPreflightRig } from './preflight.ts';
import { faultsOf } from './preflight-faults.ts';
import { runProgram, startProgramUntil } from './processes.ts';
import { expectNothingLeft } from './rehearsal.ts';

let rig: PreflightRig;
beforeAll(async () => {
  rig = await startPreflightRig({ plansFile: licencePlansFile() });
});
afterAll(() => rig.close());

const rehearsal = (env: Record<string, string>, ...args: string[]) =>
  runProgram('scripts/rehearsal.ts', env, args);

/** Everything that happened at Stripe, newest first. */
async function happened(): Promise<string[]> {
  const ids: string[] = [];
  for await (const { id } of rig.stripe.events.list({ limit: 100 })) ids.push(id);
  for await (const { id } of rig.stripe.checkout.sessions.list({ limit: 100 })) ids.push(id);
  return ids;
}

it('without --execute it says what it would do, and changes nothing at Stripe', async () => {
  const before = await happened();
  const run = await rehearsal(rig.environment, '--mode', 'test');
  expect(run.code, run.output).toBe(0);
  for (const { title } of STEPS) expect(run.output).toContain(`- ${title}\n`);
  expect(run.output).toContain('Open a checkout for API, $5 a month.');
  expect(await happened()).toEqual(before);
});

it('with --execute it buys, a licence too, and prints each step', async () => {
  const run = await rehearsal(rig.environment, '--mode', 'test', '--execute');
  expect(run.code, run.output).toBe(0);
  for (const { title } of STEPS) expect(run.output).toContain(`✓ ${title}\n`);
  expect(run.output).toContain('All went well.');
  expect(run.output).not.toContain(rig.environment.STRIPE_SECRET_KEY);
  expect(run.output).not.toMatch(/[a-z]+_test_[0-9A-Za-z]{50}|tgc_|cs_test_/);
  await expectNothingLeft(rig);
});

it('prints JSON, and its exit code is 1 when a step went wrong', async () => {
  await rig.control('/faults', { count: 1000, status: 500, paths: ['/v1/billing_portal/sessions'] });
  const run = await rehearsal(rig.environment, '--mode', 'test', '--execute', '--json');
  await rig.control('/faults/clear');
  expect(run.code, run.output).toBe(1);
  const { outcome, preflight, steps } = JSON.parse(run.output);
  expect(outcome).toBe('wrong');
  expect(preflight.length).toBeGreaterThan(10);
  expect(steps.filter(({ verdict }: { verdict: string }) => verdict === 'wrong')).toMatchObject([
    { id: 'portal' },
  ]);
  await expectNothingLeft(rig);
});

it('buys nothing on what preflight calls a stop', async () => {
  const { mend } = await faultsOf(rig).withoutPortal('subscription_cancel');
  const before = await happened();
  const run = await rehearsal(rig.environment, '--mode', 'test', '--execute');
  expect(run, run.output).toMatchObject({ code: 1, output: expect.stringContaining('Nothing was bought') });
  expect(await happened()).toEqual(before);
  await mend?.();
});

it.each(['SIGINT', 'SIGTERM'] as const)('%s: gives back what it bought, then ends', async (signal) => {
  const program = await startProgramUntil(/A checkout opens/, 'scripts/rehearsal.ts', rig.environment, [
    '--mode',
    'test',
    '--execute',
  ]);
  expect(await program.stop(signal), program.output()).toBe(1);
  expect(program.output()).toContain('✓ What was bought is canceled and given back');
  await expectNothingLeft(rig);
});

it.each([
  [[], 2, "required option '--mode <mode>' not specified"],
  [['--mode', 'both'], 2, 'Allowed choices are test, live'],
  [['--mode', 'test', '--path', 'v1'], 2, 'Give a path that begins with /.'],
  [['--mode', 'test', '--timeout', 'long'], 2, 'Give a duration'],
  [['--mode', 'live', '--execute'], 1, 'STRIPE_SECRET_KEY is a test key, and this is about live mode.'],
  [['--help'], 0, '--execute'],
])('%j: exit code %i', async (args, code, text) => {
  expect(await rehearsal(rig.environment, ...args)).toMatchObject({
    code,
    output: expect.stringContaining(text),
  });
});

it('takes real money only when that was allowed, whatever preflight may', async () => {
  const env = { ...liveEnvironment(), ALLOW_LIVE_PREFLIGHT: 'true' };
  expect(await rehearsal(env, '--mode', 'live', '--execute')).toMatchObject({
    code: 2,
    output: expect.stringContaining('Set ALLOW_LIVE_REHEARSAL=true'),
  });
});
