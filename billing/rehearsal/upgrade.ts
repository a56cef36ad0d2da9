import { changePrice } from '../stripe-changes.ts';
import { costText } from './checkout.ts';
import { planAt } from './gateway-call.ts';
import { ok, type Step, seconds, skipped, waitFor, wrong } from './step.ts';

export const upgrade: Step = {
  id: 'upgrade',
  title: 'An upgrade reaches the key',
  needed: false,
  plan: ({ goods: { better } }) =>
    better
      ? `Change the subscription to ${better.plan.name}, ${costText(better)}; the difference is paid at once.`
      : 'Nothing: there is no dearer plan that renews, in the same currency.',
  async run(rehearsal, bought) {
    const { followWithinMs, goods, stripe } = rehearsal;
    const { better } = goods;
    if (!better || !bought.subscriptionId)
      return skipped('There is no dearer plan that renews, in the same currency.');
    await changePrice(stripe, bought.subscriptionId, better.priceId, 'always_invoice');
    const known = await waitFor(rehearsal, followWithinMs, async () =>
      (await planAt(rehearsal, bought)) === better.plan.id ? true : null,
    );
    return known
      ? ok(`The same key has the plan ${better.plan.id}.`)
      : wrong(
          `${seconds(followWithinMs)} after the change at Stripe the key has not the plan ${better.plan.id}.`,
          'See that the endpoint at Stripe gets customer.subscription.updated, and npm run events -- list.',
        );
  },
};
