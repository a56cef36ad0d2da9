import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../shared/log.ts';
import { temporaryFolder } from '../../test/keystores.ts';
import { type PreflightRig, startPreflightRig } from '../../test/preflight.ts';
import { eventually } from '../../test/servers.ts';
import { type BillingServer, startBilling } from '../server.ts';
import { StopConditions } from './stop-conditions.ts';

const silent = createLogger({ level: 'silent' });
let rig: PreflightRig;
let portal: string;
beforeAll(async () => {
  rig = await startPreflightRig();
  portal = (await rig.stripe.billingPortal.configurations.list()).data[0]?.id as string;
});
afterEach(() => rig.control('/faults/clear'));
afterAll(() => rig.close());

const cancellation = (enabled: boolean) =>
  rig.stripe.billingPortal.configurations.update(portal, { features: { subscription_cancel: { enabled } } });

/** What a checkout meets after a look: `undefined`, or the code it is refused with. */
async function afterLook(conditions: StopConditions): Promise<string | undefined> {
  await conditions.look();
  return conditions.refuseCheckout().then(
    () => undefined,
    (error: { code: string }) => error.code,
  );
}

it('before the first look, and while all is well, nobody is refused', async () => {
  const conditions = new StopConditions(rig.context, silent);
  await conditions.refuseCheckout();
  expect(await afterLook(conditions)).toBeUndefined();
});

it('a portal without cancellation stops checkouts until it has it; one without invoices does not', async () => {
  const conditions = new StopConditions(rig.context, silent);
  await rig.stripe.billingPortal.configurations.update(portal, {
    features: { invoice_history: { enabled: false } },
  });
  expect(await afterLook(conditions)).toBeUndefined();
  await cancellation(false);
  expect(await afterLook(conditions)).toBe('sales_stopped');
  await rig.stripe.billingPortal.configurations.update(portal, {
    features: { invoice_history: { enabled: true }, subscription_cancel: { enabled: true } },
  });
  expect(await afterLook(conditions)).toBeUndefined();
});

it('a failure to look is no stop, also of what was one before', async () => {
  const conditions = new StopConditions(rig.context, silent);
  await cancellation(false);
  expect(await afterLook(conditions)).toBe('sales_stopped');
  await rig.control('/faults', { count: 100, status: 500, paths: ['/v1/', '/v2/'] });
  expect(await afterLook(conditions)).toBeUndefined();
  await rig.control('/faults/clear');
  await cancellation(true);
});

it('while Stripe hangs, nobody waits for it', async () => {
  const conditions = new StopConditions(rig.context, silent);
  await rig.control('/faults', { count: 1, status: 500, hang_ms: 60_000, paths: ['/v1/'] });
  const looking = conditions.look();
  await conditions.refuseCheckout();
  await looking;
});

it('an endpoint at any address is one; none that hears of purchases is a stop, and so is no signing secret', async () => {
  const conditions = new StopConditions(rig.context, silent);
  const url = `${rig.context.config.publicBillingUrl}/billing/webhook`;
  const update = (params: object) => rig.stripe.webhookEndpoints.update(rig.endpointId, params);
  await update({ url: 'https://hooks.example.com/ours', enabled_events: ['checkout.session.completed'] });
  expect(await afterLook(conditions)).toBeUndefined();
  await update({ enabled_events: ['invoice.paid'] });
  expect(await afterLook(conditions)).toBe('sales_stopped');
  await update({ url, enabled_events: ['*'], disabled: true });
  expect(await afterLook(conditions)).toBe('sales_stopped');
  await update({ disabled: false });
  const { stripe } = rig.context.config;
  const config = { ...rig.context.config, stripe: stripe && { ...stripe, webhookSecret: null } };
  expect(await afterLook(new StopConditions({ ...rig.context, config }, silent))).toBe('sales_stopped');
});

it('a secret in a tracked file is a stop', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'notes.txt'), rig.context.config.serverSecret);
  execFileSync('git', ['-C', folder, 'init'], { stdio: 'ignore' });
  const conditions = new StopConditions({ ...rig.context, folder }, silent);
  expect(await afterLook(conditions)).toBeUndefined();
  execFileSync('git', ['-C', folder, 'add', 'notes.txt'], { stdio: 'ignore' });
  expect(await afterLook(conditions)).toBe('sales_stopped');
});

it('in production, billing answers a checkout with 503 while one holds, and opens it afterwards', async () => {
  await cancellation(false);
  const { config, keystore } = rig.tollgate;
  const billing: BillingServer = await startBilling({
    config: { ...config, production: true, billingPort: 0 },
    keystore,
    log: silent,
    reconciles: false,
  });
  const checkout = async () => {
    const response = await fetch(`${billing.url}/billing/create-checkout-session`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ plan: 'pro' }),
    });
    return { status: response.status, body: await response.json() };
  };
  await eventually(async () =>
    expect(await checkout()).toMatchObject({ status: 503, body: { code: 'sales_stopped' } }),
  );
  // What is wrong is the seller's affair.
  expect(JSON.stringify((await checkout()).body)).not.toMatch(/portal|cancel/);
  await cancellation(true);
  await eventually(async () => expect((await checkout()).status).toBe(200));
  await billing.close();
});
