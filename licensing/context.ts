import type { Keystore } from '../keystore/keystore.ts';
import type { Config } from '../shared/config.ts';
import type { Mode } from '../shared/keys.ts';
import type { Logger } from '../shared/log.ts';
import type { PlanCatalogue } from '../shared/plans.ts';
import type { EntitlementTokens } from './entitlement-token.ts';
import type { Holders } from './holder.ts';
import type { KeyLimits } from './key-limits.ts';

/** What licensing's routes work with. */
export type Licensing = {
  config: Pick<Config, 'keyPrefix' | 'mail' | 'publicBillingUrl'>;
  keystore: Keystore;
  plans: PlanCatalogue;
  holders: Holders;
  limits: KeyLimits;
  tokens: EntitlementTokens;
  log: Logger;
  /** The mode of the keystore. @throws ProblemError `keystore_unavailable` while it has none */
  mode(): Promise<Mode>;
  /** Milliseconds since the epoch. */
  now(): number;
};
