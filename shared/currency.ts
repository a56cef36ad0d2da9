/**
 * Decimals of the amounts that Stripe takes and gives, where they are not two (Stripe, "Supported currencies": the
 * zero-decimal and three-decimal lists; ISK and UGX count two decimals there although they have none).
 */
const DECIMALS = new Map<string, number>([
  ...'bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'
    .split(' ')
    .map((code) => [code, 0] as const),
  ...'bhd jod kwd omr tnd'.split(' ').map((code) => [code, 3] as const),
]);

/** How many decimals an amount of this currency has at Stripe. */
export function currencyDecimals(currency: string): number {
  return DECIMALS.get(currency) ?? 2;
}

/**
 * An amount as Stripe takes it, in the currency's smallest unit. `undefined` when the amount has more decimals than the
 * currency (of three-decimal currencies Stripe wants the last digit to be 0).
 */
export function toUnitAmount(amount: number, currency: string): number | undefined {
  const unitAmount = Math.round(amount * 10 ** currencyDecimals(currency));
  const step = currencyDecimals(currency) === 3 ? 10 : 1;
  const exact = Math.abs(unitAmount / 10 ** currencyDecimals(currency) - amount) < 1e-9;
  return exact && unitAmount % step === 0 ? unitAmount : undefined;
}

/** An amount as people write it: `$19`, `$19.99`, `¥2,000`. */
export function moneyText(unitAmount: number, currency: string): string {
  const amount = unitAmount / 10 ** currencyDecimals(currency);
  const decimals = Number.isInteger(amount) ? 0 : currencyDecimals(currency);
  return new Intl.NumberFormat('en', {
    style: 'currency',
    currency: currency.toUpperCase(),
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  }).format(amount);
}
