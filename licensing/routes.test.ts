import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ConfigError } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { temporaryFolder } from '../test/keystores.ts';
import { startLicensingUnderTest } from '../test/licences.ts';
import { licensingRoutes } from './routes.ts';

it('says by name what is wrong with the signing keys of a local run', async () => {
  const test = await startLicensingUnderTest();
  onTestFinished(() => test.close());
  const dataDir = temporaryFolder();
  writeFileSync(join(dataDir, 'licensing-keys.pem'), 'x'.repeat(100), { mode: 0o600 });
  const started = licensingRoutes({
    config: { ...test.config, dataDir, licensingKeys: null },
    keystore: test.keystore,
    log: createLogger({ level: 'silent' }),
  });
  await expect(started).rejects.toThrow(ConfigError);
  await expect(started).rejects.toMatchObject({
    problems: [
      {
        variable: 'LICENSING_KEYS',
        message: expect.stringContaining('licensing-keys.pem in the data folder cannot stand in for it'),
      },
    ],
  });
});
