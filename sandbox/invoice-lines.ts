import { newId } from './ids.ts';
import type { InvoiceItem } from './invoice-items.ts';
import type { Price } from './prices.ts';
import type { Subscription, SubscriptionItem } from './subscriptions.ts';
import type { World } from './world.ts';

export type Line = ReturnType<typeof newLine>;

/** What a line costs; an amount given by hand has no price. */
interface Pricing {
  price_details?: { price: string; product: string };
  type: 'price_details';
  unit_amount_decimal: string;
}

interface LineWanted {
  invoice: string;
  sub: Subscription;
  item: SubscriptionItem | null;
  price: Price;
  quantity: number;
  amount: number;
  description: string;
  period: { start: number; end: number };
  proration?: boolean;
}

function newLine(wanted: LineWanted) {
  const { price, sub, item } = wanted;
  return {
    id: newId('il'),
    object: 'line_item' as const,
    amount: wanted.amount,
    currency: price.currency,
    description: wanted.description as string | null,
    discount_amounts: [],
    discountable: !wanted.proration,
    discounts: [],
    invoice: wanted.invoice,
    livemode: false,
    metadata: sub.metadata,
    parent: item
      ? {
          invoice_item_details: null,
          subscription_item_details: {
            invoice_item: wanted.proration ? newId('ii') : null,
            proration: wanted.proration ?? false,
            proration_details: wanted.proration ? { credited_items: null } : null,
            subscription: sub.id,
            subscription_item: item.id,
          },
          type: 'subscription_item_details' as const,
        }
      : {
          invoice_item_details: {
            invoice_item: newId('ii'),
            proration: false,
            proration_details: null,
            subscription: sub.id as string | null,
          },
          subscription_item_details: null,
          type: 'invoice_item_details' as const,
        },
    period: wanted.period,
    pretax_credit_amounts: [],
    pricing: {
      price_details: { price: price.id, product: price.product },
      type: 'price_details',
      unit_amount_decimal: price.unit_amount_decimal,
    } as Pricing,
    quantity: wanted.quantity,
    quantity_decimal: String(wanted.quantity),
    subscription: sub.id as string | null,
    subtotal: wanted.amount,
    taxes: [],
  };
}

/** One line for each item's coming period; free during a trial. */
export function periodLines(world: World, sub: Subscription, invoice: string): Line[] {
  const trial = sub.status === 'trialing';
  return sub.items.data.map((item) => {
    const name = world.store.products.find(item.price.product)?.name ?? item.price.product;
    return newLine({
      invoice,
      sub,
      item,
      price: item.price,
      quantity: item.quantity,
      amount: trial ? 0 : item.price.unit_amount * item.quantity,
      description: trial ? `Free trial for ${item.quantity} × ${name}` : `${item.quantity} × ${name}`,
      period: { start: item.current_period_start, end: item.current_period_end },
    });
  });
}

/** A line for a one-time price bought together with a subscription. */
export function oneTimeLine(
  world: World,
  sub: Subscription,
  invoice: string,
  price: Price,
  quantity: number,
): Line {
  const now = world.clock.now();
  return newLine({
    invoice,
    sub,
    item: null,
    price,
    quantity,
    amount: price.unit_amount * quantity,
    description: world.store.products.find(price.product)?.name ?? price.product,
    period: { start: now, end: now },
  });
}

/** The line for an invoice item. */
export function itemLine(item: InvoiceItem, invoice: string): Line {
  return {
    id: newId('il'),
    object: 'line_item',
    amount: item.amount,
    currency: item.currency,
    description: item.description,
    discount_amounts: [],
    discountable: item.discountable,
    discounts: [],
    invoice,
    livemode: false,
    metadata: item.metadata,
    parent: {
      invoice_item_details: {
        invoice_item: item.id,
        proration: false,
        proration_details: null,
        subscription: null,
      },
      subscription_item_details: null,
      type: 'invoice_item_details',
    },
    period: item.period,
    pretax_credit_amounts: [],
    pricing: item.pricing,
    quantity: item.quantity,
    quantity_decimal: item.quantity_decimal,
    subscription: null,
    subtotal: item.amount,
    taxes: [],
  };
}

/** Credit (negative) or charge for the rest of an item's period. Its invoice is not known yet. */
export function prorationLine(
  world: World,
  sub: Subscription,
  item: SubscriptionItem,
  price: Price,
  quantity: number,
  credit: boolean,
  from = world.clock.now(),
): Line {
  const { current_period_start: start, current_period_end: end } = item;
  const share = Math.max(0, end - from) / Math.max(1, end - start);
  const amount = Math.round(price.unit_amount * quantity * share);
  const name = world.store.products.find(price.product)?.name ?? price.product;
  return newLine({
    invoice: '',
    sub,
    item,
    price,
    quantity,
    amount: credit ? -amount : amount,
    description: `${credit ? 'Unused' : 'Remaining'} time on ${quantity} × ${name}`,
    period: { start: from, end },
    proration: true,
  });
}
