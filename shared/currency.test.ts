import { expect, it } from 'vitest';
import { moneyText, toUnitAmount } from './currency.ts';

it.each([
  [19, 'usd', 1900, '$19'],
  [19.99, 'usd', 1999, '$19.99'],
  [0, 'usd', 0, '$0'],
  [1000, 'usd', 100_000, '$1,000'],
  [2000, 'jpy', 2000, '¥2,000'],
  [10_000, 'krw', 10_000, '₩10,000'],
  [5900, 'huf', 590_000, 'HUF 5,900'],
  [5, 'isk', 500, 'ISK 5'],
  [5, 'ugx', 500, 'UGX 5'],
  [1900, 'kwd', 1_900_000, 'KWD 1,900'],
  [1.25, 'kwd', 1250, 'KWD 1.250'],
])('%d %s', (amount, currency, unitAmount, text) => {
  expect(toUnitAmount(amount, currency)).toBe(unitAmount);
  expect(moneyText(unitAmount, currency)).toBe(text);
});

it.each([
  [19.999, 'usd'],
  [2000.5, 'jpy'],
  [1.255, 'kwd'],
])('%d %s has more decimals than the currency', (amount, currency) => {
  expect(toUnitAmount(amount, currency)).toBeUndefined();
});
