import type { RawBranch } from './form.ts';

/** Parameters of earlier API versions by what they are called in this one, for each path. */
const renamed: Record<string, Record<string, string>> = {
  '/v1/checkout/sessions': { payment_method_types: 'allowed_payment_method_types' },
  '/v1/payment_intents': { payment_method_types: 'allowed_payment_method_types' },
};

/**
 * Parameters as a client wrote them that names no version, such as the Stripe CLI: Stripe reads them by the version
 * of the account, which is often an earlier one. A client that names this version does not get that.
 */
export function inPresentTerms(path: string, raw: RawBranch): RawBranch {
  const names = renamed[path];
  if (!names) return raw;
  const read = Object.entries(raw).map(([name, value]) => [names[name] ?? name, value] as const);
  return Object.assign(Object.create(null) as RawBranch, Object.fromEntries(read));
}
