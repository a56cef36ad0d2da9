import type { Config } from '../shared/config.ts';
import type { InboxWorker } from './inbox-worker.ts';
import type { Readiness } from './preflight/readiness.ts';
import type { StopConditions } from './preflight/stop-conditions.ts';
import type { SettleContext } from './settle.ts';

/** What billing's routes work with. */
export type Billing = SettleContext & {
  config: Config;
  webhookSecret: string | null;
  worker: InboxWorker;
  /** What no checkout is opened by while it lasts; `null` outside production. */
  stopConditions: StopConditions | null;
  readiness: Readiness;
};
