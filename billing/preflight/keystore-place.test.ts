import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Keystore, openKeystore } from '../../keystore/keystore.ts';
import { type Config, loadConfig } from '../../shared/config.ts';
import { createLogger } from '../../shared/log.ts';
import { newSqliteUrl } from '../../test/keystores.ts';
import { createStripe } from '../stripe-client.ts';
import type { PreflightContext } from './check.ts';
import { keystorePlace } from './keystore-place.ts';

/** What Linux calls the file system of a container's layer. */
const OVERLAY = 0x794c7630;

/** Has the machine answer so about its files, to whoever asks. */
function machine(there: { files: readonly string[]; fileSystem: number }): void {
  vi.spyOn(fs, 'existsSync').mockImplementation((path) => there.files.includes(String(path)));
  vi.spyOn(fs.promises, 'statfs').mockResolvedValue({ type: there.fileSystem } as never);
  syncBuiltinESMExports();
}

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
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  vi.unstubAllEnvs();
});

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

it.each([
  ['Docker', '/.dockerenv', undefined],
  ['Podman', '/run/.containerenv', undefined],
  ['containerd or CRI-O under Kubernetes', '', '10.0.0.1'],
])('the layer of a container of %s is a stop', async (_whose, file, host) => {
  machine({ files: [file], fileSystem: OVERLAY });
  vi.stubEnv('KUBERNETES_SERVICE_HOST', host);
  expect(await keystorePlace.run(at('sqlite:/usr/keystore.sqlite', 'test'))).toMatchObject({
    verdict: 'stop',
    detail: '/usr is in the layer of this container, and goes with it.',
  });
});

it('the same kind of file system outside of a container is none', async () => {
  machine({ files: [], fileSystem: OVERLAY });
  vi.stubEnv('KUBERNETES_SERVICE_HOST', undefined);
  expect(await keystorePlace.run(at('sqlite:/usr/keystore.sqlite', 'live'))).toMatchObject({ verdict: 'ok' });
});

it('a database server is a place that stays; its password is not shown', async () => {
  expect(
    await keystorePlace.run(at('postgres://tollgate:hunter2@db.internal/tollgate', 'live')),
  ).toMatchObject({
    verdict: 'ok',
    detail: 'postgres://tollgate@db.internal/tollgate can be written.',
  });
});
