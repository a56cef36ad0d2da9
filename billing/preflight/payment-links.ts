import { SESSION_ID_PLACEHOLDER } from '../checkout-desk.ts';
import { lookAtPaymentLinks } from '../stripe-links.ts';
import { type Check, ok, stop } from './check.ts';

export const paymentLinks: Check = {
  id: 'payment-links',
  title: 'Payment links lead to the success page',
  offline: false,
  async run({ config, mode, stripe }) {
    const ours = (await lookAtPaymentLinks(stripe)).filter(({ priceIds }) =>
      priceIds.some((id) => typeof config.plans.planForPrice(id, mode) !== 'string'),
    );
    if (ours.length === 0) return ok('No payment link sells a plan.');
    const wanted = `${config.publicBillingUrl}/billing/success?session_id=${SESSION_ID_PLACEHOLDER}`;
    const faults = ours.flatMap(({ url, leadsTo }) => {
      if (leadsTo === null) return [`${url} ends on a page of Stripe's: its buyers never see their key.`];
      if (!leadsTo.includes(SESSION_ID_PLACEHOLDER))
        return [`${url} leads to ${leadsTo}, without ${SESSION_ID_PLACEHOLDER}.`];
      return leadsTo === wanted ? [] : [`${url} leads to ${leadsTo}.`];
    });
    if (faults.length === 0)
      return ok(`Payment links that sell a plan: ${ours.length}, and each leads to the success page.`);
    return stop(
      faults.join(' '),
      `Have each redirect to ${wanted}, in the Stripe dashboard or with npm run payment-link; or deactivate it.`,
    );
  },
};
