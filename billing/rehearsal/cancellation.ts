import { cancelNow } from '../stripe-changes.ts';
import { ok, type Step, skipped, wrong } from './step.ts';

export const cancellation: Step = {
  id: 'cancellation',
  title: 'The subscription is canceled',
  needed: true,
  plan: ({ goods: { first } }) =>
    first.price.interval === null
      ? 'Nothing: what was bought does not renew.'
      : 'Cancel it at Stripe, at once.',
  async run({ stripe }, { subscriptionId }) {
    if (!subscriptionId) return skipped('What was bought does not renew.');
    const status = await cancelNow(stripe, subscriptionId);
    return status === 'canceled'
      ? ok(`${subscriptionId} is canceled at Stripe.`)
      : wrong(`${subscriptionId} is ${status} at Stripe.`, 'Cancel it in the Stripe dashboard.');
  },
};
