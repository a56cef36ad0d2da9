import { invalid, StripeError } from './errors.ts';
import { change, emit } from './events.ts';
import { newId } from './ids.ts';
import { inRange, integer, mergeMetadata, metadata, oneOf, range, string, unsupported } from './params.ts';
import type { Charge } from './payments.ts';
import { settleRefundLater } from './refund-outcomes.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

export type Refund = ReturnType<typeof createRefund>;

/**
 * Gives back a charge, whole or in part. The subscription stays as it is. A bank debit is given back `pending`.
 * Events: refund.created, charge.refunded and, once it is no longer pending, refund.updated, charge.refund.updated.
 *
 * @throws StripeError 400 for more than is left, a charge already refunded, or one that never succeeded.
 */
export function createRefund(
  world: World,
  charge: Charge,
  wanted: {
    amount?: number | undefined;
    reason?: 'duplicate' | 'fraudulent' | 'requested_by_customer' | undefined;
    metadata: Record<string, string>;
  },
) {
  const left = charge.amount - charge.amount_refunded;
  if (charge.status !== 'succeeded')
    throw invalid(`This charge has not succeeded: ${charge.id} is ${charge.status}.`, 'charge');
  if (left === 0) {
    throw new StripeError(400, {
      type: 'invalid_request_error',
      code: 'charge_already_refunded',
      message: `Charge ${charge.id} has already been refunded.`,
    });
  }
  const amount = wanted.amount ?? left;
  if (amount > left) {
    throw invalid(
      `Refund amount (${amount}) is greater than unrefunded amount on charge (${left})`,
      'amount',
    );
  }
  const card = charge.payment_method_details.type === 'card';
  const refund = {
    id: newId('re'),
    object: 'refund' as const,
    amount,
    balance_transaction: newId('txn'),
    charge: charge.id,
    created: world.clock.now(),
    currency: charge.currency,
    customer: charge.customer,
    customer_account: null,
    ...(card
      ? {
          destination_details: {
            card: {
              reference_status: 'pending',
              reference_type: 'acquirer_reference_number',
              type: 'refund',
            },
            type: 'card',
          },
        }
      : {}),
    failure_balance_transaction: undefined as string | undefined,
    failure_reason: undefined as string | undefined,
    metadata: wanted.metadata,
    payment_intent: charge.payment_intent,
    payment_method: charge.payment_method,
    pending_reason: (card ? undefined : 'processing') as 'processing' | undefined,
    reason: wanted.reason ?? null,
    receipt_number: null,
    source_transfer_reversal: null,
    status: (card ? 'succeeded' : 'pending') as 'failed' | 'pending' | 'succeeded',
    transfer_reversal: null,
  };
  world.store.refunds.add(refund);
  emit(world, 'refund.created', refund);
  change(world, 'charge.refunded', charge, {
    amount_refunded: charge.amount_refunded + amount,
    refunded: charge.amount_refunded + amount === charge.amount,
  });
  if (refund.status === 'pending') {
    settleRefundLater(world, refund);
    return refund;
  }
  emit(world, 'refund.updated', refund);
  emit(world, 'charge.refund.updated', refund);
  return refund;
}

export const refundRoutes: Route[] = [
  route(
    'POST',
    '/v1/refunds',
    {
      charge: string(),
      payment_intent: string(),
      amount: integer(1),
      reason: oneOf('duplicate', 'fraudulent', 'requested_by_customer'),
      metadata: metadata(),
      ...unsupported(
        'currency',
        'customer',
        'instructions_email',
        'origin',
        'refund_application_fee',
        'reverse_transfer',
      ),
    },
    (world, params) => {
      if (params.charge === undefined && params.payment_intent === undefined) {
        throw invalid(
          'One of the following params should be provided for this request: payment_intent or charge.',
          undefined,
          'parameter_missing',
        );
      }
      const intent =
        params.payment_intent === undefined
          ? undefined
          : world.store.paymentIntents.named(params.payment_intent, 'payment_intent');
      const id = params.charge ?? intent?.latest_charge;
      if (!id)
        throw invalid('This PaymentIntent does not have a successful charge to refund.', 'payment_intent');
      const charge = world.store.charges.named(id, 'charge');
      return createRefund(world, charge, { ...params, metadata: mergeMetadata({}, params.metadata) });
    },
  ),
  listRoute(
    '/v1/refunds',
    { charge: string(), created: range(), payment_intent: string() },
    (world, params) =>
      world.store.refunds
        .all()
        .filter(
          (refund) =>
            (!params.created || inRange(refund.created, params.created)) &&
            (params.charge === undefined || refund.charge === params.charge) &&
            (params.payment_intent === undefined || refund.payment_intent === params.payment_intent),
        ),
  ),
  route('GET', '/v1/refunds/:id', {}, (world, _params, id) => world.store.refunds.get(id)),
  route('POST', '/v1/refunds/:id', { metadata: metadata() }, (world, params, id) => {
    const refund = world.store.refunds.get(id);
    change(world, 'refund.updated', refund, { metadata: mergeMetadata(refund.metadata, params.metadata) });
    return refund;
  }),
];
