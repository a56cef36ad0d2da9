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
  /** Whether a delayed payment settles, or fails, by itself as soon as it can, whatever the settings. */
  settlesAtOnce?: true;
  /** The account of a SEPA debit. */
  iban?: string;
  /** Whether its holder disputes every charge. */
  disputes?: { reason: string; inquiry: boolean };
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

const [success, declined, insufficientFunds, renewalFails] = testMethods as [
  TestMethod,
  TestMethod,
  TestMethod,
  TestMethod,
];

/** A card that pays, and whose holder disputes that. */
function disputing(number: string, reason: string, inquiry = false): TestMethod {
  return { ...success, name: `disputes_${reason}`, number, disputes: { reason, inquiry } };
}

/** Stripe's test cards that have a name of their own, without `pm_card_` or `tok_`. */
const namedCards: Record<string, TestMethod> = {
  visa: success,
  chargeDeclined: declined,
  visa_chargeDeclined: declined,
  chargeDeclinedInsufficientFunds: insufficientFunds,
  visa_chargeDeclinedInsufficientFunds: insufficientFunds,
  chargeCustomerFail: renewalFails,
  createDispute: disputing('4000000000000259', 'fraudulent'),
  createDisputeProductNotReceived: disputing('4000000000002685', 'product_not_received'),
  createDisputeInquiry: disputing('4000000000001976', 'fraudulent', true),
};

/** The card behind a token such as `tok_visa`, or a payment method such as `pm_card_visa`. */
export function namedCard(id: string): TestMethod | undefined {
  const name = /^(?:pm_card|tok)_(\w+)$/.exec(id)?.[1];
  return name !== undefined && Object.hasOwn(namedCards, name) ? namedCards[name] : undefined;
}

const ibansThatPay = ['AT611904300234573201', 'DE89370400440532013000', 'FR1420041010050500013M02606'];
const ibansThatFail = ['AT861904300235473202', 'DE62370400440532013001', 'IT60X0542811101000000123456'];

/** The account of a test IBAN (https://docs.stripe.com/payments/sepa-debit/accept-a-payment#test-integration). */
export function accountOf(text: string): TestMethod | undefined {
  const iban = text.replaceAll(' ', '').toUpperCase();
  const pays = ibansThatPay.includes(iban);
  if (!pays && !ibansThatFail.includes(iban)) return undefined;
  return {
    name: 'sepa_debit',
    number: null,
    title: 'SEPA debit',
    hint: '',
    delayed: pays ? 'settles' : 'fails',
    settlesAtOnce: true,
    iban,
  };
}
