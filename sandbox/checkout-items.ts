import { invalid } from './errors.ts';
import { newId } from './ids.ts';
import {
  boolean,
  integer,
  mergeMetadata,
  metadata,
  missing,
  object,
  type Parsed,
  required,
  string,
  unsupported,
} from './params.ts';
import { currency, inlineRecurringShape } from './price-params.ts';
import { createPrice, type Price } from './prices.ts';
import type { World } from './world.ts';

export type Item = ReturnType<typeof newItem>;

/** A line item of a payment link. */
export const linkItemShape = {
  price: string(),
  price_data: object({
    currency: required(currency()),
    product: string(),
    product_data: object({
      name: required(string()),
      metadata: metadata(),
      ...unsupported('description', 'images', 'tax_code', 'tax_details', 'unit_label'),
    }),
    recurring: object(inlineRecurringShape),
    unit_amount: integer(0),
    ...unsupported('tax_behavior', 'unit_amount_decimal'),
  }),
  quantity: integer(1, 999_999),
  adjustable_quantity: object({ enabled: required(boolean()), ...unsupported('maximum', 'minimum') }),
};

/** A line item of a session. */
export const sessionItemShape = { ...linkItemShape, ...unsupported('metadata', 'tax_rates') };

/**
 * Line items of a session or payment link, whose prices must be active, of one currency and one interval.
 *
 * @throws StripeError 400 naming `line_items[n]...`.
 */
export function newItems(world: World, wanted: Parsed<typeof linkItemShape>[]): Item[] {
  const items = wanted.map((line, index) => {
    const path = `line_items[${index}]`;
    const price = priceOf(world, line, path);
    if (line.adjustable_quantity?.enabled) {
      throw invalid('The sandbox does not support adjustable quantities.', `${path}[adjustable_quantity]`);
    }
    if (line.quantity === undefined) throw missing(`${path}[quantity]`);
    return newItem(world, price, line.quantity);
  });
  const currencies = new Set(items.map(({ currency }) => currency));
  if (currencies.size > 1) {
    throw invalid('All prices on a Checkout Session must use the same currency.', 'line_items');
  }
  const intervals = items.flatMap(({ price }) =>
    price.recurring ? [`${price.recurring.interval_count} ${price.recurring.interval}`] : [],
  );
  if (new Set(intervals).size > 1) {
    throw invalid(
      'Checkout does not support multiple prices with different billing intervals.',
      'line_items',
    );
  }
  return items;
}

function priceOf(world: World, line: Parsed<typeof linkItemShape>, path: string): Price {
  if (line.price !== undefined && line.price_data) {
    throw invalid('You may only specify one of these parameters: price, price_data.', `${path}[price]`);
  }
  if (line.price_data) {
    const { product_data, ...data } = line.price_data;
    return createPrice(
      world,
      {
        ...data,
        active: false,
        product_data: product_data && {
          name: product_data.name,
          metadata: mergeMetadata({}, product_data.metadata),
        },
      },
      `${path}[price_data]`,
    );
  }
  if (line.price === undefined) throw missing(`${path}[price]`);
  const price = world.store.prices.named(line.price, `${path}[price]`);
  if (!price.active) {
    throw invalid(
      'The price specified is inactive. This field only accepts active prices.',
      `${path}[price]`,
    );
  }
  return price;
}

export function newItem(world: World, price: Price, quantity: number) {
  const amount = price.unit_amount * quantity;
  return {
    id: newId('li'),
    object: 'item' as const,
    adjustable_quantity: null,
    amount_discount: 0,
    amount_subtotal: amount,
    amount_tax: 0,
    amount_total: amount,
    currency: price.currency,
    description: world.store.products.find(price.product)?.name ?? price.product,
    metadata: {},
    price,
    quantity,
  };
}

/** The line items of a session or payment link. */
export function itemsOf(world: World, owner: string): Item[] {
  return world.lineItems.get(owner) ?? [];
}
