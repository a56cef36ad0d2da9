import { type Address, addressShape, wholeAddress } from './addresses.ts';
import { invalid } from './errors.ts';
import { change, emit } from './events.ts';
import { base62, newId } from './ids.ts';
import {
  clearable,
  email,
  given,
  inRange,
  integer,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  range,
  string,
  unsupported,
} from './params.ts';
import { attachAllowed, methodNamed } from './payment-methods.ts';
import { listRoute, type Route, route } from './routes.ts';
import { cancelNow } from './subscription-end.ts';
import type { World } from './world.ts';

export type Customer = ReturnType<typeof createCustomer>;

export interface CustomerWanted {
  email?: string | null | undefined;
  name?: string | null | undefined;
  description?: string | null | undefined;
  phone?: string | null | undefined;
  address?: Address | null | undefined;
  balance?: number | undefined;
  metadata?: Record<string, string>;
}

export function createCustomer(world: World, wanted: CustomerWanted) {
  const customer = {
    id: newId('cus'),
    object: 'customer' as const,
    address: wanted.address ?? (null as Address | null),
    balance: wanted.balance ?? 0,
    created: world.clock.now(),
    currency: null as string | null,
    default_source: null,
    delinquent: false,
    description: wanted.description ?? (null as string | null),
    discount: null,
    email: wanted.email ?? (null as string | null),
    invoice_prefix: base62(8).toUpperCase(),
    invoice_settings: {
      custom_fields: null,
      default_payment_method: null as string | null,
      footer: null,
      rendering_options: null,
    },
    livemode: false,
    metadata: wanted.metadata ?? {},
    name: wanted.name ?? (null as string | null),
    next_invoice_sequence: 1,
    phone: wanted.phone ?? (null as string | null),
    preferred_locales: [] as string[],
    shipping: null,
    tax_exempt: 'none' as const,
    test_clock: null,
  };
  world.store.customers.add(customer);
  emit(world, 'customer.created', customer);
  return customer;
}

const deletedCustomers = new WeakMap<World, Set<string>>();

/** The answer for a deleted customer: Stripe still knows it, by id only. */
export function findDeletedCustomer(world: World, id: string): object | undefined {
  return deletedCustomers.get(world)?.has(id) ? { id, object: 'customer', deleted: true } : undefined;
}

const shared = {
  address: clearable(addressShape),
  balance: integer(-99_999_999),
  description: clearable(string()),
  email: clearable(email()),
  invoice_settings: object({
    default_payment_method: clearable(string()),
    ...unsupported('custom_fields', 'footer', 'rendering_options'),
  }),
  metadata: metadata(),
  name: clearable(string(256)),
  phone: clearable(string(20)),
  tax_exempt: oneOf('none'),
  ...unsupported(
    'business_name',
    'cash_balance',
    'individual_name',
    'invoice_prefix',
    'next_invoice_sequence',
    'preferred_locales',
    'shipping',
    'source',
    'tax',
    'validate',
  ),
};

export const customerRoutes: Route[] = [
  route(
    'POST',
    '/v1/customers',
    { ...shared, payment_method: string(), ...unsupported('tax_id_data', 'test_clock') },
    (world, { address, metadata, invoice_settings, payment_method, ...params }) => {
      const method = payment_method && methodNamed(world, payment_method, 'payment_method');
      const customer = createCustomer(world, {
        ...params,
        address: address ? wholeAddress(address) : null,
        metadata: mergeMetadata({}, metadata),
      });
      if (method) attachAllowed(world, method, customer);
      const standard = invoice_settings?.default_payment_method;
      // One name of a test card stands for one payment method within a request.
      if (standard)
        setDefaultMethod(world, customer, method && standard === payment_method ? method.id : standard);
      return customer;
    },
  ),
  listRoute(
    '/v1/customers',
    { created: range(), email: string(512), ...unsupported('test_clock') },
    (world, params) =>
      world.store.customers
        .all()
        .filter(
          (customer) =>
            (!params.created || inRange(customer.created, params.created)) &&
            (params.email === undefined || customer.email === params.email),
        ),
  ),
  route(
    'GET',
    '/v1/customers/:id',
    {},
    (world, _params, id) => findDeletedCustomer(world, id) ?? world.store.customers.get(id),
  ),
  route(
    'POST',
    '/v1/customers/:id',
    { ...shared, ...unsupported('default_source') },
    (world, { address, metadata, invoice_settings, tax_exempt: _none, ...params }, id) => {
      const customer = world.store.customers.get(id);
      if (invoice_settings?.default_payment_method !== undefined) {
        setDefaultMethod(world, customer, invoice_settings.default_payment_method);
      }
      change(world, 'customer.updated', customer, {
        ...given(params),
        ...(address === undefined ? {} : { address: address ? wholeAddress(address) : null }),
        metadata: mergeMetadata(customer.metadata, metadata),
      });
      return customer;
    },
  ),
  route('DELETE', '/v1/customers/:id', {}, (world, _params, id) => {
    const customer = world.store.customers.get(id);
    for (const sub of world.store.subscriptions.all()) {
      if (sub.customer === id) cancelNow(world, sub, { reason: 'cancellation_requested' });
    }
    world.store.customers.remove(id);
    deletedCustomers.set(world, (deletedCustomers.get(world) ?? new Set()).add(id));
    emit(world, 'customer.deleted', customer);
    return { id, object: 'customer', deleted: true };
  }),
];

/** Makes `method` what the customer's invoices are paid with. @throws StripeError 400 if it is not attached to them. */
export function setDefaultMethod(world: World, customer: Customer, method: string | null): void {
  const path = 'invoice_settings[default_payment_method]';
  if (method !== null && world.store.paymentMethods.named(method, path).customer !== customer.id) {
    throw invalid(
      'The customer does not have a payment method with the ID ' +
        `${method}. The payment method must be attached to the customer.`,
      path,
    );
  }
  change(world, 'customer.updated', customer, {
    invoice_settings: { ...customer.invoice_settings, default_payment_method: method },
  });
}
