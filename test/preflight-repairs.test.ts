import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EVENT_KINDS } from '../billing/stripe-events.ts';
import { type PreflightRig, startPreflightRig } from './preflight.ts';
import { ELSEWHERE, type Faults, faultsOf } from './preflight-faults.ts';

let rig: PreflightRig;
let faults: Faults;
beforeAll(async () => {
  rig = await startPreflightRig();
  faults = faultsOf(rig);
});
afterAll(() => rig.close());

const resultOf = async (id: string) => (await rig.run({}, true)).find((result) => result.id === id);

it('switches on what is off in the portal', async () => {
  await faults.portalFeature('subscription_cancel', false);
  expect(await resultOf('portal')).toMatchObject({ verdict: 'ok', repaired: expect.any(String) });
  expect(await resultOf('portal')).toMatchObject({ verdict: 'ok', repaired: null });
});

it('has an endpoint get what it lacks, besides what it got', async () => {
  await faults.endpointUpdated({ enabled_events: ['invoice.paid', 'product.created'], disabled: true });
  expect(await resultOf('webhook-endpoint')).toMatchObject({ verdict: 'ok' });
  const { enabled_events, status } = await rig.stripe.webhookEndpoints.retrieve(rig.endpointId);
  expect(status).toBe('enabled');
  expect(enabled_events).toEqual(expect.arrayContaining(['product.created', ...Object.keys(EVENT_KINDS)]));
  await rig.stripe.webhookEndpoints.update(rig.endpointId, { enabled_events: ['*'] });
});

it('without a signing secret: that is the stop, and registering an endpoint is the way to one', async () => {
  const { context } = faults.withEnv({ STRIPE_WEBHOOK_SECRET: '' });
  const well = await rig.run();
  const results = await rig.run(context);
  const notWell = results.filter(({ verdict }, index) => verdict !== well[index]?.verdict);
  expect(notWell).toMatchObject([
    {
      id: 'configuration',
      verdict: 'stop',
      detail: expect.stringContaining('STRIPE_WEBHOOK_SECRET is unset'),
      remedy: expect.stringContaining('npm run preflight -- --mode test --repair'),
    },
    { id: 'signature', verdict: 'skipped' },
  ]);
});

it('registers an endpoint, and keeps its secret in a file of its owner', async () => {
  const { mend } = await faults.endpointUpdated({ url: ELSEWHERE });
  const result = await resultOf('webhook-endpoint');
  expect(result).toMatchObject({
    verdict: 'ok',
    repaired: expect.stringContaining('STRIPE_WEBHOOK_SECRET_FILE'),
  });
  const { dataDir } = rig.tollgate.config;
  const name = readdirSync(dataDir).find((each) => each.startsWith('stripe-webhook-secret-')) as string;
  const file = join(dataDir, name);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const secret = readFileSync(file, 'utf8').trim();
  expect(secret).toMatch(/^whsec_/);
  expect(JSON.stringify(result)).not.toContain(secret);
  rmSync(file);
  const { data } = await rig.stripe.webhookEndpoints.list();
  const made = data.find(({ url }) => url === faults.webhookUrl());
  await rig.stripe.webhookEndpoints.del(made?.id as string);
  await mend?.();
});
