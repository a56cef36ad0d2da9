import type Stripe from 'stripe';
import { pages } from './stripe-client.ts';
import { idOf } from './stripe-look.ts';

/** A payment link that can be paid. */
export type PaymentLinkLook = {
  id: string;
  url: string;
  priceIds: readonly string[];
  /** Where it leads after payment; `null`: to a page of Stripe's. */
  leadsTo: string | null;
};

/** Every active payment link of the account. @throws ProblemError `stripe_unavailable`, `stripe_refused` */
export async function lookAtPaymentLinks(stripe: Stripe): Promise<PaymentLinkLook[]> {
  const looks: PaymentLinkLook[] = [];
  const list = pages((after) =>
    stripe.paymentLinks.list({ active: true, limit: 100, expand: ['data.line_items'], ...after }),
  );
  for await (const page of list) {
    for (const { id, url, line_items, after_completion } of page) {
      const priceIds = (line_items?.data ?? []).flatMap(({ price }) => idOf(price) ?? []);
      looks.push({ id, url, priceIds, leadsTo: after_completion.redirect?.url ?? null });
    }
  }
  return looks;
}
