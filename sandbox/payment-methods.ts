import { type Address, wholeAddress } from './addresses.ts';
import type { Customer } from './customers.ts';
import { declined } from './errors.ts';
import { emit } from './events.ts';
import { base62, newId } from './ids.ts';
import { required, string, unsupported } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import { namedCard, type TestMethod } from './test-methods.ts';
import type { World } from './world.ts';

export type PaymentMethod = ReturnType<typeof createMethod>;

const behaviours = new WeakMap<PaymentMethod, TestMethod>();

/** How charges of `method` turn out. */
export function behaviourOf(method: PaymentMethod): TestMethod {
  return behaviours.get(method) as TestMethod;
}

export type MethodType = 'card' | 'sepa_debit' | 'us_bank_account';

/** A card, or a bank debit of the kind the currency knows. */
export function typeOf(kind: TestMethod, currency: string): MethodType {
  if (kind.number) return 'card';
  return kind.iban || currency === 'eur' ? 'sepa_debit' : 'us_bank_account';
}

/** Makes an unattached payment method. */
export function createMethod(
  world: World,
  kind: TestMethod,
  currency: string,
  email: string | null,
  payer: { name?: string | undefined; phone?: string | undefined; address?: Address | null } = {},
) {
  const type = typeOf(kind, currency);
  const method = {
    id: newId('pm'),
    object: 'payment_method' as const,
    allow_redisplay: 'limited' as const,
    billing_details: {
      address: payer.address ?? wholeAddress({}),
      email,
      name: payer.name ?? null,
      phone: payer.phone ?? null,
      tax_id: null,
    },
    created: world.clock.now(),
    customer: null as string | null,
    customer_account: null,
    livemode: false,
    metadata: {} as Record<string, string>,
    type,
    [type]: detailsOf(kind, type),
  };
  world.store.paymentMethods.add(method);
  behaviours.set(method, kind);
  return method;
}

function detailsOf(kind: TestMethod, type: string): object {
  const fingerprint = base62(16);
  if (type === 'sepa_debit') {
    return {
      bank_code: '37040044',
      branch_code: '',
      country: kind.iban?.slice(0, 2) ?? 'DE',
      fingerprint,
      generated_from: { charge: null, setup_attempt: null },
      last4: kind.iban?.slice(-4) ?? '3000',
    };
  }
  if (type === 'us_bank_account') {
    return {
      account_holder_type: 'individual',
      account_type: 'checking',
      bank_name: 'SANDBOX BANK',
      financial_connections_account: null,
      fingerprint,
      last4: '6789',
      networks: { preferred: 'ach', supported: ['ach'] },
      routing_number: '110000000',
      status_details: null,
    };
  }
  return {
    brand: 'visa',
    checks: { address_line1_check: null, address_postal_code_check: null, cvc_check: 'pass' },
    country: 'US',
    display_brand: 'visa',
    exp_month: 12,
    exp_year: 2034,
    fingerprint,
    funding: 'credit',
    generated_from: null,
    last4: kind.number?.slice(-4),
    networks: { available: ['visa'], preferred: null },
    regulated_status: 'unregulated',
    three_d_secure_usage: { supported: true },
    wallet: null,
  };
}

/** `Visa •••• 4242`, for people. */
export function describeMethod(method: PaymentMethod): string {
  const { number } = behaviourOf(method);
  return number ? `Visa •••• ${number.slice(-4)}` : 'Bank debit';
}

export function attach(world: World, method: PaymentMethod, customer: Customer): void {
  if (method.customer === customer.id) return;
  method.customer = customer.id;
  emit(world, 'payment_method.attached', method);
}

/**
 * A payment method given as parameter `param`. A name such as `pm_card_visa` stands for a new one.
 *
 * @throws StripeError 400 for an id that names none.
 */
export function methodNamed(world: World, id: string, param: string): PaymentMethod {
  const kind = namedCard(id);
  return kind ? createMethod(world, kind, 'usd', null) : world.store.paymentMethods.named(id, param);
}

/** Attaches what its bank allows to be kept. @throws StripeError 402 for a card that is declined. */
export function attachAllowed(world: World, method: PaymentMethod, customer: Customer): void {
  const { declines } = behaviourOf(method);
  if (declines) throw declined(declines);
  attach(world, method, customer);
}

const filters = { type: string(), ...unsupported('allow_redisplay') };

export const paymentMethodRoutes: Route[] = [
  listRoute(
    '/v1/payment_methods',
    { ...filters, customer: required(string()), ...unsupported('customer_account') },
    (world, params) => {
      world.store.customers.named(params.customer, 'customer');
      return methodsOf(world, params.customer, params.type);
    },
  ),
  listRoute('/v1/customers/:id/payment_methods', filters, (world, params, id) => {
    world.store.customers.get(id);
    return methodsOf(world, id, params.type);
  }),
  route('GET', '/v1/payment_methods/:id', {}, (world, _params, id) => world.store.paymentMethods.get(id)),
  route(
    'POST',
    '/v1/payment_methods/:id/attach',
    { customer: required(string()), ...unsupported('customer_account') },
    (world, params, id) => {
      const customer = world.store.customers.named(params.customer, 'customer');
      const method = namedCard(id) ? methodNamed(world, id, 'id') : world.store.paymentMethods.get(id);
      attachAllowed(world, method, customer);
      return method;
    },
  ),
  route('POST', '/v1/payment_methods/:id/detach', {}, (world, _params, id) => {
    const method = world.store.paymentMethods.get(id);
    const customer = method.customer;
    method.customer = null;
    if (customer) emit(world, 'payment_method.detached', method, { customer });
    return method;
  }),
];

function methodsOf(world: World, customer: string, type: string | undefined): PaymentMethod[] {
  return world.store.paymentMethods
    .all()
    .filter((method) => method.customer === customer && (type === undefined || method.type === type));
}
