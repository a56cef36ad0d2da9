import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { afterEach, expect, it, vi } from 'vitest';
import { temporaryFolder } from '../../test/keystores.ts';
import { Tollgate } from './tollgate.ts';

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

it('a device that could not be told once is asked for again', async () => {
  vi.spyOn(os, 'hostname').mockImplementationOnce(() => {
    throw new Error('EIO');
  });
  syncBuiltinESMExports();
  const tollgate = new Tollgate({
    server: 'https://buy.example.com',
    product: 'acme',
    folder: temporaryFolder(),
  });
  await expect(tollgate.device()).rejects.toThrow('EIO');
  expect((await tollgate.device()).id).toMatch(/^[0-9a-f]{32}$/);
});
