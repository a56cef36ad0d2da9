import Stripe from 'stripe';
import { expect } from 'vitest';
import { described, startCheckedSandbox } from '../sandbox/conformance.ts';
import type { Sandbox, SandboxOptions } from '../sandbox/server.ts';

if (!described)
  console.warn('The description of Stripe is not beside the repository: answers go unchecked against it.');

const opened: (Sandbox & { problems: string[] })[] = [];

/** Closes every sandbox started here, and fails if an answer or event of theirs was not as Stripe describes it. */
export async function closeSandboxes(): Promise<void> {
  const closing = opened.splice(0);
  for (const sandbox of closing) await sandbox.close();
  expect(closing.flatMap(({ problems }) => problems)).toEqual([]);
}

/** The official client, pointed at a sandbox. */
export function stripeAt(port: number, maxNetworkRetries = 0): Stripe {
  return new Stripe('sk_test_x', { protocol: 'http', host: '127.0.0.1', port, maxNetworkRetries });
}

/** The error of the official client with which this is refused. */
export async function refusal(
  promise: Promise<unknown>,
): Promise<{ statusCode?: number; type: string; code?: string; param?: string; message: string }> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Stripe.errors.StripeError);
  return error as never;
}

export type SandboxUnderTest = {
  url: string;
  port: number;
  stripe: Stripe;
  /** A request to the API as it is, with a secret key. */
  call(path: string, init?: RequestInit & { headers?: Record<string, string> }): Promise<Response>;
  /** Sends a form to the API as it is. */
  post(path: string, body: string, headers?: Record<string, string>): Promise<Response>;
  /** A request to the control API, whatever comes of it. */
  requestControl(path: string, body?: object): Promise<Response>;
  /** A request to the control API that must succeed; its answer. */
  control(path: string, body?: object): Promise<Record<string, unknown>>;
  /** Moves the sandbox's clock. */
  advance(seconds: number): Promise<Record<string, unknown>>;
  /** Makes a price, for once or per interval, of the one product "Pro". */
  price(unitAmount: number, interval?: 'month' | 'year'): Promise<Stripe.Price>;
  /** Opens a checkout of one payment for a product of its own. */
  openPayment(
    productName: string,
    more?: Partial<Stripe.Checkout.SessionCreateParams>,
  ): Promise<Stripe.Checkout.Session>;
  /** The types of the events created after a moment, by default of all, oldest first. */
  eventTypes(after?: number): Promise<string[]>;
};

/** A sandbox whose every answer and event is checked. `closeSandboxes` ends it. */
export async function startSandboxUnderTest(options: SandboxOptions = {}): Promise<SandboxUnderTest> {
  const sandbox = await startCheckedSandbox(options);
  opened.push(sandbox);
  const stripe = stripeAt(sandbox.port);
  let product: Stripe.Product | undefined;
  const test: SandboxUnderTest = {
    url: sandbox.url,
    port: sandbox.port,
    stripe,
    call: (path, init = {}) =>
      fetch(`${sandbox.url}${path}`, {
        ...init,
        headers: { authorization: 'Bearer sk_test_x', ...init.headers },
      }),
    post: (path, body, headers = {}) =>
      test.call(path, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      }),
    requestControl: (path, body = {}) =>
      fetch(`${sandbox.url}/_sandbox/${path}`, { method: 'POST', body: JSON.stringify(body) }),
    async control(path, body) {
      const response = await test.requestControl(path, body);
      expect(response.status).toBe(200);
      return (await response.json()) as Record<string, unknown>;
    },
    advance: (seconds) => test.control('clock', { advance_seconds: seconds }),
    async price(unitAmount, interval) {
      product ??= await stripe.products.create({ name: 'Pro' });
      return stripe.prices.create({
        product: product.id,
        currency: 'usd',
        unit_amount: unitAmount,
        ...(interval ? { recurring: { interval } } : {}),
      });
    },
    async openPayment(productName, more = {}) {
      const { id } = await stripe.products.create({ name: productName });
      const price = await stripe.prices.create({ product: id, currency: 'usd', unit_amount: 100 });
      return stripe.checkout.sessions.create({
        mode: 'payment',
        line_items: [{ price: price.id, quantity: 1 }],
        success_url: 'https://shop.example/',
        ...more,
      });
    },
    async eventTypes(after = 0) {
      const types: string[] = [];
      for await (const { type } of stripe.events.list({ limit: 100, created: { gt: after } }))
        types.unshift(type);
      return types;
    },
  };
  return test;
}

/** A sandbox with something to subscribe to. */
export type Shop = SandboxUnderTest & {
  monthly: Stripe.Price;
  dearer: Stripe.Price;
  yearly: Stripe.Price;
  /** Buys a subscription to the monthly price. */
  subscribe(
    card?: string,
    data?: Stripe.Checkout.SessionCreateParams.SubscriptionData,
  ): Promise<Stripe.Subscription>;
};

export async function startShop(options: SandboxOptions = {}): Promise<Shop> {
  const sandbox = await startSandboxUnderTest(options);
  const { stripe, control, price } = sandbox;
  const monthly = await price(2000, 'month');
  return {
    ...sandbox,
    monthly,
    dearer: await price(5000, 'month'),
    yearly: await price(20_000, 'year'),
    async subscribe(card = 'success', data = {}) {
      const { id } = await stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: monthly.id, quantity: 1 }],
        success_url: 'https://shop.example/',
        subscription_data: data,
      });
      await control(`checkout/sessions/${id}/pay`, { card });
      const { subscription } = await stripe.checkout.sessions.retrieve(id, { expand: ['subscription'] });
      return subscription as Stripe.Subscription;
    },
  };
}

/** A clock that goes on from 10 January 2027: a day that every month has, so that a month is a month from it. */
export function clockFromTheTenth(): () => number {
  const start = Date.UTC(2027, 0, 10, 12);
  const began = Date.now();
  return () => start + (Date.now() - began);
}
