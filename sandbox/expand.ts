import { itemsOf } from './checkout-items.ts';
import { invalid } from './errors.ts';
import { type List, listOf } from './pagination.ts';
import type { Collection } from './store.ts';
import type { World } from './world.ts';

type Loose = Record<string, unknown>;
type Source = (world: World) => Collection<{ id: string }>;

const sources = {
  charge: (world) => world.store.charges,
  configuration: (world) => world.store.portalConfigurations,
  customer: (world) => world.store.customers,
  feature: (world) => world.store.features,
  intent: (world) => world.store.paymentIntents,
  invoice: (world) => world.store.invoices,
  link: (world) => world.store.paymentLinks,
  method: (world) => world.store.paymentMethods,
  price: (world) => world.store.prices,
  product: (world) => world.store.products,
  subscription: (world) => world.store.subscriptions,
} satisfies Record<string, Source>;

/** Which properties hold an id that can be expanded. `object:path.inside.it`. */
const references: Record<string, Source> = {
  'billing_portal.session:configuration': sources.configuration,
  'charge:customer': sources.customer,
  'charge:payment_intent': sources.intent,
  'checkout.session:customer': sources.customer,
  'checkout.session:invoice': sources.invoice,
  'checkout.session:payment_intent': sources.intent,
  'checkout.session:payment_link': sources.link,
  'checkout.session:subscription': sources.subscription,
  'customer:invoice_settings.default_payment_method': sources.method,
  'dispute:charge': sources.charge,
  'dispute:payment_intent': sources.intent,
  'entitlements.active_entitlement:feature': sources.feature,
  'invoice:customer': sources.customer,
  'invoice:default_payment_method': sources.method,
  'invoice:parent.subscription_details.subscription': sources.subscription,
  'invoiceitem:customer': sources.customer,
  'invoiceitem:invoice': sources.invoice,
  'invoice_payment:invoice': sources.invoice,
  'invoice_payment:payment.charge': sources.charge,
  'invoice_payment:payment.payment_intent': sources.intent,
  'line_item:pricing.price_details.price': sources.price,
  'line_item:subscription': sources.subscription,
  'payment_intent:customer': sources.customer,
  'payment_intent:latest_charge': sources.charge,
  'payment_intent:payment_method': sources.method,
  'payment_method:customer': sources.customer,
  'plan:product': sources.product,
  'price:product': sources.product,
  'product:default_price': sources.price,
  'refund:charge': sources.charge,
  'refund:customer': sources.customer,
  'refund:payment_intent': sources.intent,
  'refund:payment_method': sources.method,
  'subscription:customer': sources.customer,
  'subscription:default_payment_method': sources.method,
  'subscription:latest_invoice': sources.invoice,
};

/** Lists that are there only when asked for. */
const includable: Record<string, (world: World, id: string) => List<unknown>> = {
  'checkout.session:line_items': (world, id) =>
    listOf(itemsOf(world, id), `/v1/checkout/sessions/${id}/line_items`),
  'payment_link:line_items': (world, id) => listOf(itemsOf(world, id), `/v1/payment_links/${id}/line_items`),
  'charge:refunds': (world, id) =>
    listOf(
      world.store.refunds.all().filter((refund) => refund.charge === id),
      `/v1/charges/${id}/refunds`,
    ),
  'invoice:payments': (world, id) =>
    listOf(
      world.store.invoicePayments.all().filter((payment) => payment.invoice === id),
      `/v1/invoice_payments?invoice=${id}`,
    ),
  'customer:subscriptions': (world, id) =>
    listOf(
      world.store.subscriptions.all().filter((sub) => sub.customer === id && sub.status !== 'canceled'),
      `/v1/customers/${id}/subscriptions`,
    ),
};

/** Every segment counts, `data` of a list too: `data.payment_intent.customer.default_source` is the documented limit. */
const deepest = 4;

/**
 * A copy of `object` with what `paths` name put in place of its id (https://docs.stripe.com/api/expanding_objects).
 *
 * @throws StripeError 400 for a property that cannot be expanded, or a path of more than four levels.
 */
export function expanded(world: World, object: object, paths: string[] = []): object {
  const copy = structuredClone(object) as Loose;
  for (const [index, path] of paths.entries()) {
    const segments = path.split('.');
    if (segments.length > deepest) {
      throw invalid(
        `You cannot expand more than ${deepest} levels of a property. Property: ${path}`,
        `expand[${index}]`,
      );
    }
    expandAt(world, copy, segments, path);
  }
  return copy;
}

function expandAt(
  world: World,
  at: unknown,
  segments: string[],
  path: string,
  owner?: Loose,
  inside = '',
): void {
  if (Array.isArray(at)) {
    for (const element of at) expandAt(world, element, segments, path, owner, inside);
    return;
  }
  const [segment, ...rest] = segments;
  if (segment === undefined || at === null || typeof at !== 'object') return;
  const here = at as Loose;
  const holder = typeof here.object === 'string' ? here : owner;
  const within = holder === here || inside === '' ? segment : `${inside}.${segment}`;
  const key = `${String(holder?.object)}:${within}`;
  const value = Object.hasOwn(here, segment) ? here[segment] : undefined;

  const include = Object.hasOwn(includable, key) ? includable[key] : undefined;
  if (value === undefined && include) {
    here[segment] = structuredClone(include(world, String(here.id)));
  } else if (typeof value === 'string' && Object.hasOwn(references, key)) {
    here[segment] = structuredClone((references[key] as Source)(world).find(value) ?? value);
  } else if (value === null && Object.hasOwn(references, key)) {
    return;
  } else if (value === null || typeof value !== 'object') {
    const hint = here.object === 'list' ? ` You may want to try expanding 'data.${segment}' instead.` : '';
    throw invalid(`This property cannot be expanded (${path}).${hint}`, 'expand');
  }
  expandAt(world, here[segment], rest, path, holder, within);
}
