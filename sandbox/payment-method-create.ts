import { addressShape, wholeAddress } from './addresses.ts';
import { invalid } from './errors.ts';
import {
  clearable,
  email,
  type Field,
  mergeMetadata,
  metadata,
  missing,
  object,
  oneOf,
  type Parsed,
  required,
  string,
  unsupported,
} from './params.ts';
import { createMethod, type PaymentMethod } from './payment-methods.ts';
import { type Route, route } from './routes.ts';
import { accountOf, namedCard, type TestMethod } from './test-methods.ts';
import type { World } from './world.ts';

/** Without what is inside: Stripe's description, as it lies beside the repository, has only the name. */
function opaque<T>(field: Field<T>): Field<T> {
  return { ...field, inside: undefined };
}

const createShape = {
  type: required(oneOf('card', 'sepa_debit')),
  card: object({ token: string(), ...unsupported('cvc', 'exp_month', 'exp_year', 'networks', 'number') }),
  sepa_debit: object({ iban: required(string()) }),
  billing_details: opaque(
    object({
      address: clearable(addressShape),
      email: clearable(email()),
      name: string(),
      phone: string(),
      ...unsupported('tax_id'),
    }),
  ),
  metadata: opaque(metadata()),
  allow_redisplay: oneOf('always', 'limited', 'unspecified'),
  ...unsupported(
    'acss_debit',
    'affirm',
    'afterpay_clearpay',
    'alipay',
    'alma',
    'amazon_pay',
    'au_becs_debit',
    'bacs_debit',
    'bancontact',
    'billie',
    'bizum',
    'blik',
    'boleto',
    'cashapp',
    'crypto',
    'custom',
    'customer',
    'customer_balance',
    'eps',
    'fpx',
    'giropay',
    'grabpay',
    'ideal',
    'interac_present',
    'kakao_pay',
    'klarna',
    'konbini',
    'kr_card',
    'link',
    'mb_way',
    'mobilepay',
    'multibanco',
    'naver_pay',
    'nz_bank_account',
    'oxxo',
    'p24',
    'pay_by_bank',
    'payco',
    'payment_method',
    'paynow',
    'paypal',
    'paypay',
    'payto',
    'pix',
    'promptpay',
    'radar_options',
    'revolut_pay',
    'samsung_pay',
    'satispay',
    'scalapay',
    'sequra',
    'sofort',
    'sunbit',
    'swish',
    'twint',
    'upi',
    'us_bank_account',
    'wechat_pay',
    'zip',
  ),
};

/** The test card or account named. @throws StripeError 400 for one that is not a test one known here. */
function kindOf(params: Parsed<typeof createShape>): TestMethod {
  if (params.type === 'sepa_debit') {
    if (!params.sepa_debit) throw missing('sepa_debit');
    const account = accountOf(params.sepa_debit.iban);
    if (account) return account;
    throw invalid('The sandbox does not know this IBAN: see sandbox/test-methods.ts.', 'sepa_debit[iban]');
  }
  if (!params.card?.token) throw missing('card[token]');
  const card = params.card.token.startsWith('tok_') ? namedCard(params.card.token) : undefined;
  if (card) return card;
  throw invalid(`No such token: '${params.card.token}'`, 'card[token]', 'resource_missing');
}

function create(world: World, params: Parsed<typeof createShape>): PaymentMethod {
  const { billing_details: payer } = params;
  const kind = kindOf(params);
  const method = createMethod(world, kind, kind.iban ? 'eur' : 'usd', payer?.email ?? null, {
    name: payer?.name,
    phone: payer?.phone,
    address: payer?.address ? wholeAddress(payer.address) : null,
  });
  method.metadata = mergeMetadata({}, params.metadata);
  return method;
}

export const paymentMethodCreateRoutes: Route[] = [route('POST', '/v1/payment_methods', createShape, create)];
