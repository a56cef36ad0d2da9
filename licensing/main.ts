import { openKeystore } from '../keystore/keystore.ts';
import { loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { runService } from '../shared/service.ts';
import { startLicensing } from './server.ts';

await runService(async () => {
  const config = loadConfig(process.env, 'licensing');
  const log = createLogger({ level: config.logLevel });
  const keystore = await openKeystore({
    ...config,
    url: config.keystoreUrl,
    log,
    mails: config.mail !== null,
  });
  const licensing = await startLicensing({ config, keystore, log });
  return {
    message: `Licensing listens on ${licensing.url} (public address ${config.publicLicensingUrl}). Metrics: ${licensing.internalUrl}/metrics`,
    async close() {
      await licensing.close();
      await keystore.close();
    },
  };
});
