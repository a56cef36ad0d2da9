import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import type Stripe from 'stripe';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { eventProblems } from '../sandbox/conformance.ts';
import { type BillingUnderTest, startBillingUnderTest } from './billing.ts';
import { temporaryFolder } from './keystores.ts';

/** The official Stripe CLI for this machine; `undefined` when npm has none for it. */
function findStripeCli(): string | undefined {
  const name = process.platform === 'win32' ? 'stripe.exe' : 'stripe';
  try {
    const manifest = `@stripe/cli-${process.platform}-${process.arch}/package.json`;
    const path = join(dirname(createRequire(import.meta.url).resolve(manifest)), 'bin', name);
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** A plain webhook receiver, which keeps only what is signed as the official SDK wants it. */
class Receiver {
  readonly events: Stripe.Event[] = [];
  /** What was wrong with deliveries that were not kept. */
  readonly refused: string[] = [];
  secret = '';
  readonly #server: Server;

  constructor(stripe: Stripe) {
    this.#server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8');
      request.on('data', (chunk: string) => {
        body += chunk;
      });
      request.on('end', () => {
        try {
          const signature = request.headers['stripe-signature'] ?? '';
          this.events.push(stripe.webhooks.constructEvent(body, signature, this.secret));
          response.end();
        } catch (error) {
          this.refused.push((error as Error).message);
          response.writeHead(400).end();
        }
      });
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const cli = findStripeCli();
let billing: BillingUnderTest;
let receiver: Receiver;
/** Where the CLI keeps its settings, apart from those of whoever runs this. */
let home: string;

beforeAll(async () => {
  if (!cli) return;
  home = temporaryFolder();
  billing = await startBillingUnderTest();
  receiver = new Receiver(billing.stripe);
  receiver.secret = billing.sandbox.listen(await receiver.listen()).secret;
});

afterAll(async () => {
  receiver?.close();
  await billing?.close();
});

beforeEach(({ skip }) => skip(!cli, 'there is no Stripe CLI for this machine'));

/** Runs the CLI against the sandbox, whatever comes of it. */
function runCli(...args: string[]): Promise<{ code: number; output: string }> {
  const key = ['--api-base', billing.sandbox.url, '--api-key', 'sk_test_stripeCliTriggers'];
  const env = {
    HOME: home,
    XDG_CONFIG_HOME: home,
    STRIPE_CLI_TELEMETRY_OPTOUT: '1',
    // Nothing leaves this machine: the CLI's look for a newer version ends here.
    HTTPS_PROXY: 'http://127.0.0.1:9',
    PATH: '',
  };
  return new Promise((resolve) => {
    execFile(cli as string, [...args, ...key], { env, timeout: 20_000 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
      resolve({ code, output: `${stdout}${stderr}` });
    });
  });
}

/** Runs the CLI, and sees that an event of `type` comes of it: to the receiver, signed and well formed, and to billing. */
async function expectEvent(type: string, ...args: string[]): Promise<void> {
  const before = receiver.events.length;
  expect(await runCli(...args)).toMatchObject({ code: 0 });
  const find = () => receiver.events.slice(before).find((event) => event.type === type);
  await expect.poll(find).toBeDefined();
  const event = find() as Stripe.Event;
  expect(eventProblems(event as never)).toEqual([]);
  expect(receiver.refused).toEqual([]);
  const inInbox = async () => (await billing.keystore.findEvent(event.id)) ?? { status: 'missing' };
  await expect.poll(async () => (await inInbox()).status).toMatch(/^(processed|failed)$/);
  // What the CLI sells is no plan of ours. That an event was looked into shows in its outcome.
  expect(await inInbox()).not.toMatchObject({ outcome: 'unhandled' });
}

it.each([
  'checkout.session.completed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.async_payment_failed',
  'checkout.session.expired',
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.subscription.deleted',
  'customer.subscription.paused',
  'customer.subscription.trial_will_end',
  'invoice.paid',
  'invoice.payment_succeeded',
  'invoice.payment_failed',
  'charge.refunded',
  'charge.dispute.created',
  'charge.dispute.closed',
  'customer.updated',
  'customer.deleted',
])('stripe trigger %s', (type) => expectEvent(type, 'trigger', type));

it('stripe trigger charge.refund.updated brings refund.updated', () =>
  expectEvent('refund.updated', 'trigger', 'charge.refund.updated'));

const product = { name: 'product', path: '/v1/products', method: 'post', params: { name: 'Pro' } };
const price = {
  name: 'price',
  path: '/v1/prices',
  method: 'post',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
  params: { product: '${product:id}', unit_amount: 1500, currency: 'usd', recurring: { interval: 'month' } },
};
const customer = {
  name: 'customer',
  path: '/v1/customers',
  method: 'post',
  params: { payment_method: 'pm_card_visa', invoice_settings: { default_payment_method: 'pm_card_visa' } },
};
const subscription = {
  name: 'subscription',
  path: '/v1/subscriptions',
  method: 'post',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
  params: { customer: '${customer:id}', items: [{ price: '${price:id}' }] },
};

/** What the CLI has no trigger for can be had with fixtures of one's own. */
it.each([
  [
    'customer.subscription.resumed',
    [
      product,
      price,
      customer,
      subscription,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
      { name: 'pause', path: '/v1/subscriptions/${subscription:id}/pause', method: 'post' },
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
      { name: 'resume', path: '/v1/subscriptions/${subscription:id}/resume', method: 'post' },
    ],
  ],
  [
    'entitlements.active_entitlement_summary.updated',
    [
      {
        name: 'feature',
        path: '/v1/entitlements/features',
        method: 'post',
        params: { name: 'Exports', lookup_key: 'exports' },
      },
      product,
      {
        name: 'attached',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
        path: '/v1/products/${product:id}/features',
        method: 'post',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: the CLI's own templates
        params: { entitlement_feature: '${feature:id}' },
      },
      price,
      customer,
      subscription,
    ],
  ],
])('stripe fixtures that lead to %s', async (type, fixtures) => {
  const file = join(temporaryFolder(), 'fixture.json');
  writeFileSync(file, JSON.stringify({ _meta: { template_version: 0 }, fixtures }));
  await expectEvent(type, 'fixtures', file);
});

it('what the CLI has no trigger for, it refuses itself', async () => {
  const { code, output } = await runCli('trigger', 'customer.subscription.resumed');
  expect(code).toBe(1);
  expect(output).toContain('not supported by Stripe CLI');
});
