import type { Customer } from './customers.ts';
import { emit } from './events.ts';
import { base62, newId } from './ids.ts';
import { required, string, unsupported } from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import type { World } from './world.ts';

/** What happens to a charge: it succeeds, is declined with a code, or is `delayed` and later settles or fails. */
export interface TestMethod {
  /** The name for the control API, and the id of the choice on the page. */
  name: string;
  /** Stripe's test card number; null for a bank debit. */
  number: string | null;
  title: string;
  hint: string;
  /** Decline code of charges while the buyer is there. */
  declines?: string;
  /** Decline code of charges later on. */
  declinesLater?: string;
  /** Whether a payment is only settled later, and how. */
  delayed?: 'settles' | 'fails';
}

/** What a buyer can pay with here (https://docs.stripe.com/testing). */
export const testMethods: TestMethod[] = [
  {
    name: 'success',
    number: '4242424242424242',
    title: 'Card that works',
    hint: 'Pays now and at every renewal',
  },
  {
    name: 'declined',
    number: '4000000000000002',
    title: 'Declined card',
    hint: 'Refused by the bank',
    declines: 'generic_decline',
    declinesLater: 'generic_decline',
  },
  {
    name: 'insufficient_funds',
    number: '4000000000009995',
    title: 'Insufficient funds',
    hint: 'Refused for lack of money',
    declines: 'insufficient_funds',
    declinesLater: 'insufficient_funds',
  },
  {
    name: 'renewal_fails',
    number: '4000000000000341',
    title: 'Fails at renewal',
    hint: 'Pays now, is refused later',
    declinesLater: 'generic_decline',
  },
  {
    name: 'bank_debit',
    number: null,
    title: 'Bank debit (delayed; settles later)',
    hint: 'The money arrives after checkout',
    delayed: 'settles',
  },
  {
    name: 'bank_debit_fails',
    number: null,
    title: 'Bank debit (delayed; fails later)',
    hint: 'The money never arrives',
    delayed: 'fails',
  },
];

/** A test method by its name or card number (spaces allowed). */
export function findTestMethod(nameOrNumber: string): TestMethod | undefined {
  const number = nameOrNumber.replaceAll(/[\s-]/g, '');
  return testMethods.find((method) => method.name === nameOrNumber || method.number === number);
}

export type PaymentMethod = ReturnType<typeof createMethod>;

const behaviours = new WeakMap<PaymentMethod, TestMethod>();

/** How charges of `method` turn out. */
export function behaviourOf(method: PaymentMethod): TestMethod {
  return behaviours.get(method) as TestMethod;
}

/** Makes an unattached payment method: a card, or a bank debit of the kind the currency knows. */
export function createMethod(world: World, kind: TestMethod, currency: string, email: string | null) {
  const type = kind.number ? 'card' : currency === 'eur' ? 'sepa_debit' : 'us_bank_account';
  const method = {
    id: newId('pm'),
    object: 'payment_method' as const,
    allow_redisplay: 'limited' as const,
    billing_details: {
      address: { city: null, country: null, line1: null, line2: null, postal_code: null, state: null },
      email,
      name: null,
      phone: null,
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
      country: 'DE',
      fingerprint,
      generated_from: { charge: null, setup_attempt: null },
      last4: '3000',
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
      const method = world.store.paymentMethods.get(id);
      attach(world, method, world.store.customers.named(params.customer, 'customer'));
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
