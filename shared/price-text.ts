import { moneyText } from './currency.ts';
import type { Price } from './plan.ts';

/** What a plan costs as people say it: `$19 a month`, `$49 once`; `null` where its price is only known at Stripe. */
export function priceText(price: Price | null): string | null {
  if (!price) return null;
  const text = moneyText(price.unitAmount, price.currency);
  if (price.unitAmount === 0) return text;
  return price.interval ? `${text} a ${price.interval}` : `${text} once`;
}
