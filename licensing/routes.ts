import express, { type RequestHandler, type Router } from 'express';
import type { Registry } from 'prom-client';
import { type Keystore, KeystoreError } from '../keystore/keystore.ts';
import { type Config, ConfigError } from '../shared/config.ts';
import { localSecret } from '../shared/local-secret.ts';
import type { Logger } from '../shared/log.ts';
import { onlyBy } from '../shared/methods.ts';
import { newSigningKey, readSigningKeys, type SigningKeys } from '../shared/signing-keys.ts';
import type { Licensing } from './context.ts';
import { EntitlementTokens } from './entitlement-token.ts';
import { featureRoutes } from './features.ts';
import { Holders } from './holder.ts';
import { KeyLimits } from './key-limits.ts';
import { licenceRoutes } from './licence-routes.ts';
import { questionMetrics } from './metrics.ts';
import { trialRoutes } from './trial.ts';

/**
 * Programs in a web view ask from an origin of their own. Nothing here goes by a cookie, so no page gets more than whoever has
 * the key has anyway.
 */
const fromAnyOrigin: RequestHandler = (request, response, next) => {
  response.set('Access-Control-Allow-Origin', '*');
  response.set('Access-Control-Expose-Headers', 'Retry-After, X-Request-ID');
  if (request.method !== 'OPTIONS' || request.get('access-control-request-method') === undefined) {
    next();
    return;
  }
  response.set('Access-Control-Allow-Methods', 'GET, POST');
  response.set('Access-Control-Allow-Headers', 'Authorization, Content-Type, X-API-Key');
  response.set('Access-Control-Max-Age', '86400').status(204).end();
};

/** How long others may keep the public keys, seconds: a new one is published this long before it signs. */
const JWKS_MAX_AGE_S = 300;
/** The signing keys of a local run. */
const LOCAL_KEYS_FILE = 'licensing-keys.pem';

/**
 * All that licensing serves, for billing's process or its own: `/licences/...` and `/.well-known/jwks.json`. `undefined` when no
 * plan grants devices: then there are no licences.
 *
 * @throws ConfigError when the signing key of a local run cannot be kept in the data folder
 */
export async function licensingRoutes(options: {
  config: Config;
  keystore: Keystore;
  log: Logger;
  /** Where its metrics go, if anybody asks for them. */
  registry?: Registry;
  now?: () => number;
}): Promise<Router | undefined> {
  const { config, keystore, now = Date.now } = options;
  if (!config.plans.plans.some((plan) => plan.licence !== null)) return undefined;
  const tokens = await EntitlementTokens.with(
    config.licensingKeys === null ? localKeys(config.dataDir) : readSigningKeys(config.licensingKeys),
    config.publicLicensingUrl,
    config.keyPrefix,
  );
  const licensing: Licensing = {
    config,
    keystore,
    plans: config.plans,
    holders: new Holders(keystore),
    limits: new KeyLimits(config.plans),
    tokens,
    log: options.log.child({ room: 'licensing' }),
    async mode() {
      const mode = await keystore.mode();
      if (mode === null)
        throw new KeystoreError('The keystore has no mode yet: start billing once', 'NO_MODE');
      return mode;
    },
    now,
  };
  const router = express.Router();
  if (options.registry) router.use('/licences', questionMetrics(options.registry));
  router.use(['/licences', '/.well-known/jwks.json'], fromAnyOrigin);
  router.get('/.well-known/jwks.json', (_request, response) => {
    response.set('Cache-Control', `public, max-age=${JWKS_MAX_AGE_S}`).json(tokens.jwks);
  });
  router.all('/.well-known/jwks.json', onlyBy('GET'));
  router.use(licenceRoutes(licensing), featureRoutes(licensing), trialRoutes(licensing));
  return router;
}

function localKeys(dataDir: string): SigningKeys {
  try {
    return readSigningKeys(localSecret(dataDir, LOCAL_KEYS_FILE, newSigningKey).secret);
  } catch (error) {
    const message = `is unset, and ${LOCAL_KEYS_FILE} in the data folder cannot stand in for it: ${(error as Error).message}`;
    throw new ConfigError([{ variable: 'LICENSING_KEYS', message }]);
  }
}
