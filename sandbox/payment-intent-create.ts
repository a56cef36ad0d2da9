import { shippingShape, wholeShipping } from './addresses.ts';
import { settleInvoice, settleLater } from './delayed-payments.ts';
import { declined, invalid } from './errors.ts';
import {
  boolean,
  email,
  integer,
  list,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  only,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { attach, methodNamed, type PaymentMethod } from './payment-methods.ts';
import { cancelIntent, confirm, createIntent, type PaymentIntent } from './payments.ts';
import { currency } from './price-params.ts';
import { type Route, route } from './routes.ts';
import type { World } from './world.ts';

const setupFutureUsage = oneOf('off_session', 'on_session');

/** Collects an intent now. @throws StripeError 402 when the bank says no, 400 for one that is past that. */
function collectNow(world: World, intent: PaymentIntent, method: PaymentMethod, onSession: boolean): void {
  if (intent.status !== 'requires_payment_method' && intent.status !== 'requires_confirmation') {
    throw invalid(
      `You cannot confirm this PaymentIntent because it has a status of ${intent.status}.`,
      undefined,
      'payment_intent_unexpected_state',
    );
  }
  if (!intent.payment_method_types.includes(method.type)) {
    throw invalid(`This PaymentIntent does not take payments of the type ${method.type}.`, 'payment_method');
  }
  const outcome = confirm(world, intent, method, onSession);
  if (outcome !== 'processing') settleInvoice(world, intent, outcome === 'succeeded');
  if (outcome === 'failed') {
    const charge = world.store.charges.get(intent.latest_charge as string);
    throw declined(charge.outcome.reason ?? 'generic_decline', {
      charge: charge.id,
      payment_intent: structuredClone(intent),
    });
  }
  if (outcome === 'processing') settleLater(world, intent, method);
  const customer = world.store.customers.find(intent.customer);
  if (customer && intent.setup_future_usage) attach(world, method, customer);
}

const notHere = unsupported(
  'amount_details',
  'confirmation_token',
  'error_on_requires_action',
  'excluded_payment_method_types',
  'hooks',
  'mandate',
  'mandate_data',
  'payment_details',
  'payment_method_data',
  'payment_method_options',
  'radar_options',
  'use_stripe_sdk',
);

/** Confirms an intent with a payment method. @throws ApiError when there is none to confirm it with */
function confirmed(
  world: World,
  intent: PaymentIntent,
  method: PaymentMethod | undefined,
  offSession: boolean | undefined,
): PaymentIntent {
  if (!method) {
    throw invalid(
      'You cannot confirm this PaymentIntent because it is missing a payment method.',
      undefined,
      'payment_intent_unexpected_state',
    );
  }
  collectNow(world, intent, method, !offSession);
  return intent;
}

export const paymentIntentCreateRoutes: Route[] = [
  route(
    'POST',
    '/v1/payment_intents',
    {
      amount: required(integer(1)),
      currency: required(currency()),
      customer: string(),
      description: string(1000),
      metadata: metadata(),
      receipt_email: email(),
      payment_method: string(),
      confirm: boolean(),
      off_session: boolean(),
      allowed_payment_method_types: list(oneOf('card', 'sepa_debit', 'us_bank_account')),
      automatic_payment_methods: object({
        enabled: required(boolean()),
        allow_redirects: oneOf('always', 'never'),
      }),
      capture_method: oneOf('automatic', 'automatic_async'),
      confirmation_method: only('automatic'),
      return_url: url(),
      setup_future_usage: setupFutureUsage,
      shipping: shippingShape,
      ...notHere,
      ...unsupported(
        'application_fee_amount',
        'customer_account',
        'on_behalf_of',
        'payment_method_configuration',
        'statement_descriptor',
        'statement_descriptor_suffix',
        'transfer_data',
        'transfer_group',
      ),
    },
    (world, params) => {
      if (params.customer !== undefined) world.store.customers.named(params.customer, 'customer');
      const method = params.payment_method
        ? methodNamed(world, params.payment_method, 'payment_method')
        : undefined;
      const intent = createIntent(world, {
        amount: params.amount,
        currency: params.currency,
        customer: params.customer ?? null,
        description: params.description ?? null,
        metadata: mergeMetadata({}, params.metadata),
        email: params.receipt_email ?? null,
        types: params.allowed_payment_method_types,
        shipping: wholeShipping(params.shipping),
        setupFutureUsage: params.setup_future_usage,
      });
      if (method) {
        intent.payment_method = method.id;
        intent.status = 'requires_confirmation';
      }
      if (!params.confirm) return intent;
      return confirmed(world, intent, method, params.off_session);
    },
  ),
  route(
    'POST',
    '/v1/payment_intents/:id/confirm',
    {
      payment_method: string(),
      off_session: boolean(),
      return_url: url(),
      ...notHere,
      ...unsupported(
        'allowed_payment_method_types',
        'amount_to_confirm',
        'capture_method',
        'receipt_email',
        'setup_future_usage',
        'shipping',
      ),
    },
    (world, params, id) => {
      const intent = world.store.paymentIntents.get(id);
      const method = params.payment_method
        ? methodNamed(world, params.payment_method, 'payment_method')
        : world.store.paymentMethods.find(intent.payment_method);
      return confirmed(world, intent, method, params.off_session);
    },
  ),
  route(
    'POST',
    '/v1/payment_intents/:id/cancel',
    { cancellation_reason: oneOf('abandoned', 'duplicate', 'fraudulent', 'requested_by_customer') },
    (world, params, id) => {
      const intent = world.store.paymentIntents.get(id);
      if (intent.status === 'succeeded' || intent.status === 'canceled' || intent.status === 'processing') {
        throw invalid(
          `You cannot cancel this PaymentIntent because it has a status of ${intent.status}.`,
          undefined,
          'payment_intent_unexpected_state',
        );
      }
      cancelIntent(world, intent, params.cancellation_reason ?? null);
      return intent;
    },
  ),
];
