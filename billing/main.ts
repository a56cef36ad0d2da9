import { Registry } from 'prom-client';
import { openKeystore } from '../keystore/keystore.ts';
import { licensingRoutes } from '../licensing/routes.ts';
import { loadConfig } from '../shared/config.ts';
import { createLogger } from '../shared/log.ts';
import { runService } from '../shared/service.ts';
import { startBilling } from './server.ts';

await runService(async () => {
  const config = loadConfig(process.env, 'billing');
  const log = createLogger({ level: config.logLevel });
  const keystore = await openKeystore({
    ...config,
    url: config.keystoreUrl,
    log,
    mails: config.mail !== null,
  });
  const registry = new Registry();
  const beside = await licensingRoutes({ config, keystore, log, registry });
  const billing = await startBilling({ config, keystore, log, registry, ...(beside && { beside }) });
  return {
    message: `Billing listens on ${billing.url} (public address ${config.publicBillingUrl}, Stripe in ${config.stripe?.mode} mode). Metrics: ${billing.internalUrl}/metrics`,
    async close() {
      await billing.close();
      await keystore.close();
    },
  };
});
