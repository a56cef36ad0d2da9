import { waitUntilRefused } from './gateway-call.ts';
import { answerText } from './request.ts';
import { ok, type Step, seconds, skipped, wrong } from './step.ts';

/** Before the refund, which ends access too: what the cancellation does could not be told after it. */
export const accessEnds: Step = {
  id: 'access-ends',
  title: 'Access ends with the subscription',
  needed: true,
  plan: ({ goods: { first } }) =>
    first.price.interval === null
      ? 'Nothing: what was bought does not renew.'
      : 'See that the gateway refuses the key from then on.',
  async run(rehearsal, bought) {
    if (!bought.subscriptionId) return skipped('What was bought does not renew.');
    const started = performance.now();
    const refused = await waitUntilRefused(rehearsal, bought, [401, 402]);
    return refused
      ? ok(`${Math.round(performance.now() - started)} ms later the gateway answered ${answerText(refused)}.`)
      : wrong(
          `${seconds(rehearsal.followWithinMs)} after the cancellation at Stripe the gateway still admits the key.`,
          'See that the endpoint at Stripe gets customer.subscription.deleted, and that gateway and billing use one keystore; npm run reconcile ends it.',
        );
  },
};
