import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { newId } from './ids.ts';
import { inRange, range, string } from './params.ts';
import type { Charge } from './payments.ts';
import { listRoute, type Route, route } from './routes.ts';
import { day, type World } from './world.ts';

export type Dispute = ReturnType<typeof openDispute>;

const noEvidence = Object.fromEntries(
  'access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal customer_communication customer_email_address customer_name customer_purchase_ip customer_signature duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number uncategorized_file uncategorized_text'
    .split(' ')
    .map((name) => [name, null]),
);

/**
 * Opens a dispute. An inquiry (`warning_needs_response`) withdraws nothing yet.
 * Events: charge.dispute.created and, unless an inquiry, charge.dispute.funds_withdrawn.
 *
 * @throws StripeError 400 for a charge that did not succeed or is already disputed.
 */
export function openDispute(
  world: World,
  charge: Charge,
  wanted: { reason: string; inquiry: boolean; amount?: number | undefined },
) {
  if (charge.status !== 'succeeded') throw invalid(`Only a succeeded charge can be disputed.`, 'charge');
  if (charge.disputed) throw invalid(`The charge ${charge.id} is already disputed.`, 'charge');
  const now = world.clock.now();
  charge.disputed = true;
  const dispute = {
    id: newId('du'),
    object: 'dispute' as const,
    amount: wanted.amount ?? charge.amount,
    balance_transactions: [],
    charge: charge.id,
    created: now,
    currency: charge.currency,
    enhanced_eligibility_types: [],
    evidence: { ...noEvidence, enhanced_evidence: {} },
    evidence_details: {
      due_by: now + 9 * day,
      enhanced_eligibility: {},
      has_evidence: false,
      past_due: false,
      submission_count: 0,
      submission_method: 'not_submitted' as const,
    },
    intended_submission_method: null,
    is_charge_refundable: wanted.inquiry,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    payment_method_details: {
      card: {
        brand: 'visa',
        case_type: wanted.inquiry ? 'inquiry' : 'chargeback',
        network: 'visa',
        network_reason_code: '10.4',
      },
      type: 'card',
    },
    reason: wanted.reason,
    status: (wanted.inquiry ? 'warning_needs_response' : 'needs_response') as
      | 'needs_response'
      | 'warning_needs_response'
      | 'warning_closed'
      | 'won'
      | 'lost',
  };
  world.store.disputes.add(dispute);
  emit(world, 'charge.dispute.created', dispute);
  if (!wanted.inquiry) emit(world, 'charge.dispute.funds_withdrawn', dispute);
  return dispute;
}

/**
 * Decides a dispute. Events: charge.dispute.closed and, when won, charge.dispute.funds_reinstated.
 *
 * @throws StripeError 400 when it is closed, or the outcome does not fit (an inquiry ends in `warning_closed` only).
 */
export function closeDispute(
  world: World,
  dispute: Dispute,
  outcome: 'won' | 'lost' | 'warning_closed',
): void {
  const inquiry = dispute.status === 'warning_needs_response';
  if (!inquiry && dispute.status !== 'needs_response')
    throw invalid('This dispute is already closed.', 'dispute');
  if (inquiry !== (outcome === 'warning_closed')) {
    throw invalid(`A dispute with the status ${dispute.status} cannot end as ${outcome}.`, 'outcome');
  }
  dispute.status = outcome;
  dispute.is_charge_refundable = false;
  emit(world, 'charge.dispute.closed', dispute);
  if (outcome === 'won') emit(world, 'charge.dispute.funds_reinstated', dispute);
}

export const disputeRoutes: Route[] = [
  listRoute(
    '/v1/disputes',
    { charge: string(), created: range(), payment_intent: string() },
    (world, params) =>
      world.store.disputes
        .all()
        .filter(
          (dispute) =>
            (!params.created || inRange(dispute.created, params.created)) &&
            (params.charge === undefined || dispute.charge === params.charge) &&
            (params.payment_intent === undefined || dispute.payment_intent === params.payment_intent),
        ),
  ),
  route('GET', '/v1/disputes/:id', {}, (world, _params, id) => world.store.disputes.get(id)),
  route('POST', '/v1/disputes/:id/close', {}, (world, _params, id) => {
    const dispute = world.store.disputes.get(id);
    closeDispute(world, dispute, dispute.status === 'warning_needs_response' ? 'warning_closed' : 'lost');
    return dispute;
  }),
];
