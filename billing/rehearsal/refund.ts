import { moneyText } from '../../shared/currency.ts';
import { refundAll } from '../stripe-changes.ts';
import { waitUntilRefused } from './gateway-call.ts';
import { lastPlan } from './goods.ts';
import { answerText } from './request.ts';
import { ok, type Step, seconds, skipped, wrong } from './step.ts';

export const refund: Step = {
  id: 'refund',
  title: 'A refund revokes the key',
  needed: false,
  plan: () => 'Give back all that was paid, and see that the key is revoked.',
  async run(rehearsal, bought) {
    const { followWithinMs, goods, stripe } = rehearsal;
    const given = await refundAll(stripe, bought.sessionId as string);
    if (!given) return skipped('Nothing was paid.');
    const text = `${moneyText(given.amount, given.currency)} were given back`;
    if (!given.settled)
      return ok(`${text}; Stripe says that it is on its way. The key is revoked once it is there.`);
    if (lastPlan(goods).access.refund === 'keep')
      return ok(`${text}; the plan keeps its keys (refund: keep).`);
    const refused = await waitUntilRefused(rehearsal, bought, [401]);
    return refused
      ? ok(`${text}; the gateway answered ${answerText(refused)}.`)
      : wrong(
          `${text}; ${seconds(followWithinMs)} later the key is not revoked.`,
          'See that the endpoint at Stripe gets charge.refunded, and npm run events -- list; npm run reconcile puts it right.',
        );
  },
};
