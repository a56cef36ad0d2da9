import { openKeystore } from '../keystore/keystore.ts';
import type { Config } from '../shared/config.ts';
import type { Logger } from '../shared/log.ts';
import { type Gateway, type GatewayOptions, startGateway } from './server.ts';

/** What a process of the gateway is made of: a gateway and its connection to the keystore. */
export type GatewayOnKeystore = Pick<Gateway, 'url' | 'internalUrl' | 'figures' | 'close'> & {
  /** Takes in what changed outside: opens logs anew, puts the routes file into force. */
  refresh(): void;
};

/** @throws KeystoreOpenError, or the system's error when a port cannot be had */
export async function startOnKeystore(options: {
  config: Config;
  log: Logger;
  routes?: GatewayOptions['routes'];
  workers?: GatewayOptions['workers'];
}): Promise<GatewayOnKeystore> {
  const { config, log } = options;
  const keystore = await openKeystore({
    url: config.keystoreUrl,
    serverSecret: config.serverSecret,
    keyHash: config.keyHash,
    revealTtlMs: config.revealTtlMs,
    log,
  });
  const gateway = await startGateway({ ...options, keystore });
  return {
    url: gateway.url,
    internalUrl: gateway.internalUrl,
    figures: gateway.figures,
    refresh() {
      gateway.reopenLogs();
      gateway.reloadRoutes();
    },
    async close() {
      await gateway.close();
      await keystore.close();
    },
  };
}
