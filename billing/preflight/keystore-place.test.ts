import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Keystore, openKeystore } from '../../keystore/keystore.ts';
import { type Config, loadConfig } from '../../shared/config.ts';
import { createLogger } from '../../shared/log.ts';
import { newSqliteUrl } from '../../test/keystores.ts';
import { createStripe } from '../stripe-client.ts';
import type { PreflightContext } from './check.ts';
import { keystorePlace } from './keystore-place.ts';

let config: Config;
let keystore: Keystore;
beforeAll(async () => {
  config = loadConfig({ KEYSTORE_URL: newSqliteUrl(), PLANS_FILE: 'plans.yaml' }, 'tool');
  keystore = await openKeystore({
    ...config,
    url: config.keystoreUrl,
    log: createLogger({ level: 'silent' }),
  });
});
afterAll(() => keystore.close());

const at = (keystoreUrl: string, mode: 'test' | 'live'): PreflightContext => ({
  mode,
  config: { ...config, keystoreUrl },
  stripe: createStripe({ secretKey: 'sk_test_x', apiBase: 'http://127.0.0.1:1', requestsPerSecond: null }),
  keystore,
  upstreamUrls: null,
  folder: '/',
  backupFile: null,
  now: Date.now,
});

it.each([
  ['sqlite:./data/keystore.sqlite', /is a relative path/],
  ['sqlite:/tmp/keystore.sqlite', /is a folder for temporary files/],
])('%s is a stop with real money, and a warning without', async (url, detail) => {
  expect(await keystorePlace.run(at(url, 'live'))).toMatchObject({
    verdict: 'stop',
    detail: expect.stringMatching(detail),
    remedy: expect.stringContaining('KEYSTORE_URL'),
  });
  expect(await keystorePlace.run(at(url, 'test'))).toMatchObject({ verdict: 'warning' });
});

it('a database server is a place that stays; its password is not shown', async () => {
  expect(
    await keystorePlace.run(at('postgres://tollgate:hunter2@db.internal/tollgate', 'live')),
  ).toMatchObject({
    verdict: 'ok',
    detail: 'postgres://tollgate@db.internal/tollgate can be written.',
  });
});
