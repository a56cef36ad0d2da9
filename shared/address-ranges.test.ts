import { expect, it } from 'vitest';
import { addressesIn, isAddressOrRange, isAmong } from './address-ranges.ts';

it.each(['192.0.2.1', '192.0.2.0/24', '10.0.0.0/8', '2001:db8::1', '2001:db8::/32', '::1/128'])(
  '%s is an address or a range',
  (text) => expect(isAddressOrRange(text)).toBe(true),
);

it.each([
  '',
  'example.com',
  '192.0.2',
  '192.0.2.0/33',
  '192.0.2.0/0',
  '192.0.2.0/',
  '1.2.3.4/8/9',
  'fe80::1%eth0',
])('"%s" is neither', (text) => expect(isAddressOrRange(text)).toBe(false));

it('tells who is in them, in either family', () => {
  const addresses = addressesIn(['192.0.2.0/24', '2001:db8::/32', '198.51.100.7']);
  const who = [
    '192.0.2.255',
    '192.0.3.0',
    '198.51.100.7',
    '2001:db8:9::1',
    '2001:db9::1',
    'fe80::1%eth0',
    '',
  ];
  expect(who.map((address) => isAmong(addresses, address))).toEqual([
    true,
    false,
    true,
    true,
    false,
    false,
    false,
  ]);
});
