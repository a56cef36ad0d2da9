import type { Shipping } from './addresses.ts';
import { openDispute } from './disputes.ts';
import { decline } from './errors.ts';
import { emit } from './events.ts';
import { base62, newId } from './ids.ts';
import { behaviourOf, type PaymentMethod } from './payment-methods.ts';
import type { World } from './world.ts';

export type PaymentIntent = ReturnType<typeof createIntent>;
export type Charge = ReturnType<typeof createCharge>;
export type PaymentOutcome = 'succeeded' | 'processing' | 'failed';

/** Makes a payment intent that still needs a payment method. */
export function createIntent(
  world: World,
  wanted: {
    amount: number;
    currency: string;
    customer: string | null;
    description?: string | null;
    metadata?: Record<string, string>;
    email?: string | null;
    types?: string[] | undefined;
    shipping?: Shipping | null;
    setupFutureUsage?: 'off_session' | 'on_session' | undefined;
  },
) {
  const id = newId('pi');
  const intent = {
    id,
    object: 'payment_intent' as const,
    allowed_payment_method_types: wanted.types ?? (null as string[] | null),
    amount: wanted.amount,
    amount_capturable: 0,
    amount_received: 0,
    application: null,
    application_fee_amount: null,
    automatic_payment_methods: null,
    canceled_at: null as number | null,
    cancellation_reason: null as string | null,
    capture_method: 'automatic_async' as const,
    client_secret: `${id}_secret_${base62(25)}`,
    confirmation_method: 'automatic' as const,
    created: world.clock.now(),
    currency: wanted.currency,
    customer: wanted.customer,
    customer_account: null,
    description: wanted.description ?? (null as string | null),
    excluded_payment_method_types: null,
    last_payment_error: null as object | null,
    latest_charge: null as string | null,
    livemode: false,
    managed_payments: { enabled: false },
    metadata: wanted.metadata ?? {},
    next_action: null,
    on_behalf_of: null,
    payment_method: null as string | null,
    payment_method_configuration_details: null,
    payment_method_options: null,
    payment_method_types: wanted.types ?? ['card', 'us_bank_account'],
    payment_record: null,
    processing: null,
    receipt_email: wanted.email ?? (null as string | null),
    review: null,
    setup_future_usage: wanted.setupFutureUsage ?? null,
    shipping: wanted.shipping ?? null,
    source: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: 'requires_payment_method' as
      | 'requires_payment_method'
      | 'requires_confirmation'
      | 'processing'
      | 'succeeded'
      | 'canceled',
    transfer_data: null,
    transfer_group: null,
  };
  world.store.paymentIntents.add(intent);
  emit(world, 'payment_intent.created', intent);
  return intent;
}

function createCharge(world: World, intent: PaymentIntent, method: PaymentMethod, declined: string | null) {
  const failure = declined === null ? null : decline(declined);
  const delayed = failure === null && behaviourOf(method).delayed !== undefined;
  const charge = {
    id: newId('ch'),
    object: 'charge' as const,
    amount: intent.amount,
    amount_captured: failure ? 0 : intent.amount,
    amount_refunded: 0,
    application: null,
    application_fee: null,
    application_fee_amount: null,
    balance_transaction: failure || delayed ? null : newId('txn'),
    billing_details: method.billing_details,
    calculated_statement_descriptor: 'SANDBOX',
    captured: failure === null,
    created: world.clock.now(),
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    disputed: false,
    failure_balance_transaction: null,
    failure_code: failure?.code ?? null,
    failure_message: failure?.message ?? null,
    fraud_details: {},
    livemode: false,
    metadata: intent.metadata,
    on_behalf_of: null,
    outcome: outcome(failure),
    paid: failure === null && !delayed,
    payment_intent: intent.id as string | null,
    payment_method: method.id,
    payment_method_details: { type: method.type, [method.type]: chargeDetails(method, intent.amount) },
    receipt_email: intent.receipt_email,
    receipt_number: null,
    receipt_url: null,
    refunded: false,
    review: null,
    shipping: intent.shipping,
    source: null,
    source_transfer: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    status: (failure ? 'failed' : delayed ? 'pending' : 'succeeded') as 'failed' | 'pending' | 'succeeded',
    transfer_data: null,
    transfer_group: null,
  };
  world.store.charges.add(charge);
  return charge;
}

function outcome(failure: { decline_code: string } | null) {
  return {
    advice_code: failure ? 'try_again_later' : null,
    network_advice_code: null,
    network_decline_code: failure ? '05' : null,
    network_status: failure ? 'declined_by_network' : 'approved_by_network',
    reason: failure?.decline_code ?? null,
    risk_level: 'normal',
    risk_score: 10,
    seller_message: failure ? 'The bank returned a decline.' : 'Payment complete.',
    type: failure ? 'issuer_declined' : 'authorized',
  };
}

function chargeDetails(method: PaymentMethod, amount: number): object {
  const kept = (method as unknown as Record<string, Record<string, unknown>>)[method.type] ?? {};
  const { bank_code, branch_code, country, fingerprint, last4, exp_month, exp_year, funding } = kept;
  if (method.type === 'sepa_debit')
    return { bank_code, branch_code, country, fingerprint, last4, mandate: null };
  if (method.type === 'us_bank_account') {
    const { account_holder_type, account_type, bank_name, routing_number } = kept;
    return {
      account_holder_type,
      account_type,
      bank_name,
      fingerprint,
      last4,
      payment_reference: null,
      routing_number,
    };
  }
  return {
    amount_authorized: amount,
    authorization_code: null,
    brand: 'visa',
    checks: kept.checks,
    country,
    electronic_commerce_indicator: null,
    exp_month,
    exp_year,
    fingerprint,
    funding,
    installments: null,
    last4,
    mandate: null,
    network: 'visa',
    network_transaction_id: null,
    regulated_status: 'unregulated',
    three_d_secure: null,
    transaction_link_id: null,
    wallet: null,
  };
}

/**
 * Tries to collect a payment intent with a payment method. `onSession`: the buyer is there, at a checkout.
 * Events: charge.succeeded | charge.pending | charge.failed and the payment intent's.
 */
export function confirm(
  world: World,
  intent: PaymentIntent,
  method: PaymentMethod,
  onSession: boolean,
): PaymentOutcome {
  const kind = behaviourOf(method);
  const declined =
    takeFailNext(world, intent.customer) ?? (onSession ? kind.declines : kind.declinesLater) ?? null;
  const charge = createCharge(world, intent, method, declined);
  intent.latest_charge = charge.id;
  if (declined !== null) {
    emit(world, 'charge.failed', charge);
    intentFailed(world, intent, method, charge);
    return 'failed';
  }
  intent.payment_method = method.id;
  intent.last_payment_error = null;
  if (charge.status === 'pending') {
    emit(world, 'charge.pending', charge);
    intent.status = 'processing';
    emit(world, 'payment_intent.processing', intent);
    return 'processing';
  }
  emit(world, 'charge.succeeded', charge);
  intentSucceeded(world, intent);
  if (kind.disputes) openDispute(world, charge, kind.disputes);
  return 'succeeded';
}

function takeFailNext(world: World, customer: string | null): string | undefined {
  const next = world.failNext.find((rule) => rule.customer === null || rule.customer === customer);
  if (!next) return undefined;
  next.count -= 1;
  world.failNext = world.failNext.filter(({ count }) => count > 0);
  return next.decline_code;
}

function intentSucceeded(world: World, intent: PaymentIntent): void {
  intent.status = 'succeeded';
  intent.amount_received = intent.amount;
  emit(world, 'payment_intent.succeeded', intent);
}

function intentFailed(world: World, intent: PaymentIntent, method: PaymentMethod, charge: Charge): void {
  const { code, decline_code, message } = decline(charge.outcome.reason ?? 'generic_decline');
  intent.status = 'requires_payment_method';
  intent.payment_method = null;
  intent.last_payment_error = {
    type: 'card_error',
    charge: charge.id,
    code,
    decline_code,
    doc_url: 'https://docs.stripe.com/error-codes/card-declined',
    message,
    payment_method: method,
  };
  emit(world, 'payment_intent.payment_failed', intent);
}

/** Ends a delayed payment's wait. Events: charge.succeeded or charge.failed and the payment intent's. */
export function settleIntent(world: World, intent: PaymentIntent, succeeds: boolean): void {
  const charge = world.store.charges.get(intent.latest_charge as string);
  if (succeeds) {
    charge.status = 'succeeded';
    charge.paid = true;
    charge.balance_transaction = newId('txn');
    emit(world, 'charge.succeeded', charge);
    intentSucceeded(world, intent);
    return;
  }
  const { code, message } = decline('debit_not_authorized');
  Object.assign(charge, {
    status: 'failed',
    paid: false,
    failure_code: code,
    failure_message: message,
    outcome: outcome({ decline_code: 'debit_not_authorized' }),
  });
  emit(world, 'charge.failed', charge);
  intentFailed(world, intent, world.store.paymentMethods.get(charge.payment_method), charge);
}

/** Gives up on an intent that will not be collected. */
export function cancelIntent(
  world: World,
  intent: PaymentIntent,
  reason: string | null = 'void_invoice',
): void {
  if (intent.status === 'succeeded' || intent.status === 'canceled') return;
  Object.assign(intent, {
    status: 'canceled',
    canceled_at: world.clock.now(),
    cancellation_reason: reason,
  });
  emit(world, 'payment_intent.canceled', intent);
}
