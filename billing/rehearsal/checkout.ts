import { moneyText } from '../../shared/currency.ts';
import type { Good } from './goods.ts';
import { answerText, request } from './request.ts';
import { ok, type Step, wrong } from './step.ts';

export const checkout: Step = {
  id: 'checkout',
  title: 'A checkout opens',
  needed: true,
  plan: ({ goods: { first } }) => `Open a checkout for ${first.plan.name}, ${costText(first)}.`,
  async run({ config, goods: { first } }, bought) {
    const opened = await request(`${config.publicBillingUrl}/billing/purchases`, {
      json: { plan: first.plan.id },
    });
    const { purchase_id, claim_token, checkout_url } = opened.body;
    const checkoutUrl = String(checkout_url);
    const sessionId = /cs_(test|live)_[0-9A-Za-z]+/.exec(checkoutUrl)?.[0];
    if (opened.status !== 201 || sessionId === undefined) {
      return wrong(
        `POST /billing/purchases for ${first.plan.id} answered ${answerText(opened)}.`,
        'Billing logs the reason; the README explains each code, under "Errors".',
      );
    }
    Object.assign(bought, {
      purchaseId: String(purchase_id),
      claimToken: String(claim_token),
      checkoutUrl,
      sessionId,
    });
    return ok(`${first.plan.name}, ${costText(first)}: ${purchase_id}.`);
  },
};

/** What a plan costs as Stripe has it: `$19 a month`. */
export function costText({ price: { unitAmount, currency, interval } }: Good): string {
  const text = moneyText(unitAmount, currency);
  return interval === null
    ? `${text} once`
    : /^\d/.test(interval)
      ? `${text} every ${interval}`
      : `${text} a ${interval}`;
}
