import { type AtStripe, subscriptionOf } from './convergence-model.ts';
import type { ConvergenceWorld } from './convergence-world.ts';

/** What of Stripe's objects bears on a session, a line each, for a person who looks into a difference. */
export async function objectsOf(world: ConvergenceWorld, atStripe: AtStripe, id: string): Promise<string[]> {
  const session = atStripe.sessions.find((one) => one.id === id)!;
  const subscription = atStripe.subscriptions.find((one) => one.id === session.subscription);
  const invoices = atStripe.invoices.filter(
    (invoice) => subscription && subscriptionOf(invoice) === subscription.id,
  );
  const intents = atStripe.intents.filter(
    (intent) =>
      intent.id === session.payment_intent ||
      atStripe.invoicePayments.some(
        ({ invoice, payment }) =>
          payment.payment_intent === intent.id && invoices.some((one) => one.id === invoice),
      ),
  );
  const charges = atStripe.charges.filter(({ payment_intent }) =>
    intents.some((intent) => intent.id === payment_intent),
  );
  const time = (seconds: number | null | undefined) =>
    seconds ? new Date(seconds * 1000).toISOString().slice(0, 19) : null;
  const ofCharge = <T extends { charge: unknown }>(all: readonly T[], charge: string) =>
    all.filter((one) => one.charge === charge);
  const known = subscription && (await world.keystore.findSubscription(subscription.id));
  return [
    `now ${time(atStripe.now)}`,
    `session ${session.mode} ${session.status} ${session.payment_status}, created ${time(session.created)}, ${session.customer}`,
    ...(subscription
      ? [
          `${subscription.id} ${subscription.status}, created ${time(subscription.created)}, trial ${time(subscription.trial_start)} to ${time(subscription.trial_end)}, ended ${time(subscription.ended_at)}, latest ${subscription.latest_invoice}, items ${subscription.items.data.map((item) => `${item.quantity} ${atStripe.planOf.get(item.price.id)} to ${time(item.current_period_end)}`)}`,
          `  here: ${JSON.stringify(known)}`,
        ]
      : []),
    ...invoices.map(
      (invoice) =>
        `${invoice.id} ${invoice.status} ${invoice.billing_reason}, due ${invoice.amount_due}, attempts ${invoice.attempt_count}, created ${time(invoice.created)}, final ${time(invoice.status_transitions.finalized_at)}, paid ${time(invoice.status_transitions.paid_at)}, periods to ${invoice.lines.data.map((line) => time(line.period.end))}`,
    ),
    ...intents.map((intent) => `${intent.id} ${intent.status}`),
    ...charges.flatMap((charge) => [
      `${charge.id} ${charge.status} ${charge.amount}, created ${time(charge.created)}`,
      ...ofCharge(atStripe.refunds, charge.id).map(
        (refund) => `  ${refund.id} ${refund.status} ${refund.amount}, created ${time(refund.created)}`,
      ),
      ...ofCharge(atStripe.disputes, charge.id).map((dispute) => `  ${dispute.id} ${dispute.status}`),
    ]),
  ];
}
