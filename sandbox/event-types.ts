/** Types of events by what they are about: those of Stripe's that belong to selling, known here but not all emitted. */
const byObject: Record<string, string> = {
  account: 'updated',
  balance: 'available',
  'billing.alert': 'triggered',
  'billing.credit_balance_transaction': 'created',
  'billing.credit_grant': 'created updated',
  'billing.meter': 'created deactivated reactivated updated',
  'billing_portal.configuration': 'created updated',
  'billing_portal.session': 'created',
  charge: 'captured expired failed pending refunded succeeded updated',
  'charge.dispute': 'closed created funds_reinstated funds_withdrawn updated',
  'charge.refund': 'updated',
  'checkout.session': 'async_payment_failed async_payment_succeeded completed expired',
  coupon: 'created deleted updated',
  credit_note: 'created updated voided',
  customer: 'created deleted updated',
  'customer.discount': 'created deleted updated',
  'customer.subscription':
    'created deleted paused pending_update_applied pending_update_expired resumed trial_will_end updated',
  'customer.tax_id': 'created deleted updated',
  'entitlements.active_entitlement_summary': 'updated',
  file: 'created',
  invoice:
    'created deleted finalization_failed finalized marked_uncollectible overdue overpaid paid payment_action_required payment_attempt_required payment_failed payment_succeeded sent upcoming updated voided will_be_due',
  invoice_payment: 'paid',
  invoiceitem: 'created deleted',
  mandate: 'updated',
  payment_intent:
    'amount_capturable_updated canceled created partially_funded payment_failed processing requires_action succeeded',
  payment_link: 'created updated',
  payment_method: 'attached automatically_updated detached updated',
  plan: 'created deleted updated',
  price: 'created deleted updated',
  product: 'created deleted updated',
  promotion_code: 'created updated',
  quote: 'accepted canceled created finalized',
  refund: 'created failed updated',
  setup_intent: 'canceled created requires_action setup_failed succeeded',
  subscription_schedule: 'aborted canceled completed created expiring released updated',
  tax_rate: 'created updated',
  'test_helpers.test_clock': 'advancing created deleted internal_failure ready',
};

export const eventTypes: string[] = Object.entries(byObject).flatMap(([object, happenings]) =>
  happenings.split(' ').map((happening) => `${object}.${happening}`),
);
