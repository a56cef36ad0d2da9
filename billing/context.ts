import type { Config } from '../shared/config.ts';
import type { InboxWorker } from './inbox-worker.ts';
import type { SettleContext } from './settle.ts';

/** What billing's routes work with. */
export type Billing = SettleContext & {
  config: Config;
  webhookSecret: string | null;
  worker: InboxWorker;
};
