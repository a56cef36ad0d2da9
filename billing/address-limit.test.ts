import type { Request } from 'express';
import { expect, it } from 'vitest';
import { AddressLimit, addressGroup } from './address-limit.ts';

it('counts IPv4 by address and IPv6 by /64', () => {
  expect(addressGroup('203.0.113.7')).toBe('203.0.113.7');
  expect(addressGroup('::ffff:203.0.113.7')).toBe('::ffff:203.0.113.7');
  expect(addressGroup('2001:db8:1:2:3:4:5:6')).toBe('2001:db8:1:2');
  expect(addressGroup('2001:db8:1:2::9')).toBe('2001:db8:1:2');
  expect(addressGroup('2001:db8::1')).toBe('2001:db8:0:0');
  expect(addressGroup('::1')).toBe('0:0:0:0');
});

it('refuses one address and leaves the others', async () => {
  const limit = new AddressLimit(2, 60);
  const from = (ip: string) => limit.spend({ ip } as Request);
  await from('192.0.2.1');
  await from('192.0.2.1');
  await expect(from('192.0.2.1')).rejects.toMatchObject({
    code: 'too_many_requests',
    extensions: { retry_after: 60 },
  });
  await from('192.0.2.2');
});
