import { z } from 'zod';
import type { Api } from './api.ts';
import { needsMethod, paySession } from './checkout-payment.ts';
import { intentOfSession, settle } from './delayed-payments.ts';
import { closeDispute, openDispute } from './disputes.ts';
import { invalid } from './errors.ts';
import { isEmail } from './params.ts';
import { failRefund, settleRefund } from './refund-outcomes.ts';
import { findTestMethod, testMethods } from './test-methods.ts';
import { defaultMode, deliveryModes } from './webhook-delivery.ts';
import { allEndpoints, createEndpoint, secretOf } from './webhook-endpoints.ts';
import { resetWorld } from './world.ts';

/** One command of the control API. */
export interface Command<T> {
  method: 'GET' | 'POST';
  path: string;
  body: z.ZodType<T>;
  run(api: Api, body: T, id: string): unknown;
}

function command<T>(
  method: 'GET' | 'POST',
  path: string,
  body: z.ZodType<T>,
  run: Command<T>['run'],
): Command<unknown> {
  return { method, path, body, run } as Command<unknown>;
}

const nothing = z.strictObject({});
const whole = z.int().min(0);

/** Every command of the control API: see sandbox/README.md. */
export const commands: Command<unknown>[] = [
  command('GET', '/_sandbox/clock', nothing, (api) => clockNow(api)),
  command(
    'POST',
    '/_sandbox/clock',
    z.strictObject({
      advance_seconds: z
        .int()
        .min(1)
        .max(20 * 366 * 86_400),
    }),
    (api, body) => {
      api.world.clock.advance(body.advance_seconds);
      return clockNow(api);
    },
  ),
  command(
    'POST',
    '/_sandbox/settings',
    z
      .strictObject({
        after_final_retry: z.enum(['canceled', 'unpaid', 'past_due']),
        retry_days: z.array(z.int().min(1).max(60)).max(10),
        draft_seconds: whole,
        settle_delayed_after_ms: whole.nullable(),
      })
      .partial(),
    (api, body) => Object.assign(api.world.settings, body),
  ),
  command(
    'POST',
    '/_sandbox/charges/fail_next',
    z.strictObject({
      count: z.int().min(1).max(1000).default(1),
      decline_code: z
        .string()
        .regex(/^[a-z_]{1,40}$/)
        .default('generic_decline'),
      customer: z.string().nullable().default(null),
    }),
    (api, body) => {
      if (body.customer !== null) api.world.store.customers.named(body.customer, 'customer');
      api.world.failNext.push(body);
      return { fail_next: api.world.failNext };
    },
  ),
  command(
    'POST',
    '/_sandbox/checkout/sessions/:id/pay',
    z.strictObject({
      card: z.string().default('success'),
      email: z.string().refine(isEmail, 'not an email address').optional(),
    }),
    (api, body, id) => {
      const session = api.world.store.sessions.get(id);
      const kind = findTestMethod(body.card);
      if (!kind)
        throw invalid(
          `Unknown card: use one of ${testMethods.map(({ name }) => name).join(', ')}, or its number.`,
          'card',
        );
      paySession(
        api.world,
        session,
        needsMethod(api.world, session) ? kind : null,
        body.email ?? session.customer_details?.email ?? 'buyer@example.com',
      );
      return session;
    },
  ),
  command('POST', '/_sandbox/checkout/sessions/:id/settle', nothing, (api, _body, id) => {
    settle(api.world, intentOfSession(api.world, id), true);
    return api.world.store.sessions.get(id);
  }),
  command('POST', '/_sandbox/checkout/sessions/:id/fail', nothing, (api, _body, id) => {
    settle(api.world, intentOfSession(api.world, id), false);
    return api.world.store.sessions.get(id);
  }),
  command('POST', '/_sandbox/payment_intents/:id/settle', nothing, (api, _body, id) => {
    const intent = api.world.store.paymentIntents.get(id);
    settle(api.world, intent, true);
    return intent;
  }),
  command('POST', '/_sandbox/payment_intents/:id/fail', nothing, (api, _body, id) => {
    const intent = api.world.store.paymentIntents.get(id);
    settle(api.world, intent, false);
    return intent;
  }),
  command('GET', '/_sandbox/delivery', nothing, (api) => api.world.delivery.mode),
  command(
    'POST',
    '/_sandbox/delivery',
    z.strictObject({
      mode: z.enum(deliveryModes),
      delay_ms: whole.max(600_000).default(defaultMode.delay_ms),
      window_ms: whole.max(60_000).default(defaultMode.window_ms),
      copies: z.int().min(1).max(10).default(defaultMode.copies),
      drop_fraction: z.number().min(0).max(1).default(defaultMode.drop_fraction),
      seed: whole.default(defaultMode.seed),
    }),
    (api, body) => {
      api.world.delivery.setMode(body);
      return api.world.delivery.mode;
    },
  ),
  command(
    'POST',
    '/_sandbox/delivery/flush',
    z.strictObject({
      order: z.enum(['concurrent', 'created', 'reversed', 'shuffled']).default('concurrent'),
      seed: whole.default(1),
    }),
    (api, body) => api.world.delivery.flush(body.order, body.seed),
  ),
  command('GET', '/_sandbox/deliveries', nothing, (api) => ({ deliveries: api.world.delivery.report() })),
  command('POST', '/_sandbox/events/:id/deliver', nothing, async (api, _body, id) => ({
    attempts: await api.world.delivery.redeliver(api.world.store.events.get(id), allEndpoints(api.world)),
  })),
  command(
    'POST',
    '/_sandbox/faults',
    z.strictObject({
      count: z.int().min(1).max(1_000_000).default(1),
      status: z
        .int()
        .refine((status) => status === 429 || (status >= 500 && status <= 599), '429 or 5xx')
        .nullable()
        .default(null),
      hang_ms: whole.max(600_000).default(0),
      drop_connection: z.boolean().default(false),
      after: z.boolean().default(false),
      paths: z.array(z.string().regex(/^\/v[12]\//)).default([]),
    }),
    (api, body) => {
      api.world.faults.push(body);
      return { faults: api.world.faults };
    },
  ),
  command('POST', '/_sandbox/faults/clear', nothing, (api) => {
    api.world.faults = [];
    return { faults: [] };
  }),
  command(
    'POST',
    '/_sandbox/disputes',
    z.strictObject({
      charge: z.string(),
      reason: z
        .string()
        .regex(/^[a-z_]{1,40}$/)
        .default('fraudulent'),
      status: z.enum(['needs_response', 'warning_needs_response']).default('needs_response'),
      amount: z.int().min(1).optional(),
    }),
    (api, { charge, reason, status, amount }) =>
      openDispute(api.world, api.world.store.charges.named(charge, 'charge'), {
        reason,
        amount,
        inquiry: status === 'warning_needs_response',
      }),
  ),
  command(
    'POST',
    '/_sandbox/disputes/:id/close',
    z.strictObject({ outcome: z.enum(['won', 'lost', 'warning_closed']) }),
    (api, { outcome }, id) => {
      const dispute = api.world.store.disputes.get(id);
      closeDispute(api.world, dispute, outcome);
      return dispute;
    },
  ),
  command('POST', '/_sandbox/refunds/:id/settle', nothing, (api, _body, id) => {
    const refund = api.world.store.refunds.get(id);
    settleRefund(api.world, refund);
    return refund;
  }),
  command(
    'POST',
    '/_sandbox/refunds/:id/fail',
    z.strictObject({
      failure_reason: z
        .string()
        .regex(/^[a-z_]{1,60}$/)
        .default('unknown'),
    }),
    (api, { failure_reason }, id) => {
      const refund = api.world.store.refunds.get(id);
      failRefund(api.world, refund, failure_reason);
      return refund;
    },
  ),
  command(
    'POST',
    '/_sandbox/listen',
    z.strictObject({
      url: z.url(),
      thin: z.boolean().default(false),
      api_version: z
        .string()
        .regex(/^\d{4}-\d{2}-\d{2}(\.[a-z]+)?$/)
        .optional(),
    }),
    (api, { url, thin, api_version }) => {
      const endpoint = createEndpoint(api.world, { url, enabled_events: ['*'], api_version }, thin);
      return { id: endpoint.id, secret: secretOf(endpoint) };
    },
  ),
  command('POST', '/_sandbox/reset', nothing, (api) => {
    resetWorld(api.world);
    api.keys.clear();
    return { reset: true };
  }),
];

function clockNow({ world }: Api) {
  return { now: world.clock.now(), iso: new Date(world.clock.nowMs()).toISOString() };
}
