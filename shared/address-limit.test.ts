import type { Request } from 'express';
import { expect, it } from 'vitest';
import { AddressLimit } from './address-limit.ts';

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
