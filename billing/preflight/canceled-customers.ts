import { accessOf, GOOD_STANDING } from '../../shared/access.ts';
import { listEndedSubscriptions } from '../stripe-history.ts';
import { type Check, ok, type PreflightContext, stop } from './check.ts';

/** How long an event may be on its way, milliseconds: Stripe's first retries are within this. */
const ON_ITS_WAY_MS = 600_000;
/** Of those that ended, the newest so many hundreds are looked at; reconciling compares all of them. */
const PAGES = 3;
const NAMED = 5;

export const canceledCustomers: Check = {
  id: 'canceled-customers',
  title: 'Nobody is admitted whose subscription has ended',
  offline: false,
  async run(context) {
    const { ended, admitted } = await admittedThoughEnded(context);
    if (admitted.length === 0)
      return ok(`Ended subscriptions that were looked at: ${ended}; none of them admits anybody.`);
    const named = admitted.slice(0, NAMED).join(', ');
    const more = admitted.length > NAMED ? ` and ${admitted.length - NAMED} more` : '';
    return stop(
      `Ended at Stripe, and still admitted here: ${named}${more}.`,
      'npm run reconcile; then find out why their events did not arrive.',
    );
  },
};

async function admittedThoughEnded({ config, keystore, now, stripe }: PreflightContext) {
  let ended = 0;
  const admitted: string[] = [];
  for await (const page of listEndedSubscriptions(stripe, now() - ON_ITS_WAY_MS, PAGES)) {
    for (const id of page) {
      const known = await keystore.findSubscription(id);
      if (!known) continue;
      ended++;
      const rules = config.plans.plan(known.planId) ?? {};
      if (known.hasLivingKey && accessOf(GOOD_STANDING, known, rules, now()).state === 'active')
        admitted.push(id);
    }
  }
  return { ended, admitted };
}
