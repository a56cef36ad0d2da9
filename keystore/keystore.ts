import { timingSafeEqual } from 'node:crypto';
import type { Mode } from '../shared/keys.ts';
import type { Logger } from '../shared/log.ts';
import { lastBackup } from './backup-record.ts';
import { ChangeFeed } from './change-feed.ts';
import * as consoleSessions from './console-sessions.ts';
import * as consoleUsers from './console-users.ts';
import * as customerRecords from './customer-records.ts';
import * as customers from './customers.ts';
import { closeDatabase, openDatabase } from './database.ts';
import * as devices from './devices.ts';
import { KeystoreOpenError } from './errors.ts';
import * as inbox from './event-inbox.ts';
import { eventTypes } from './event-types.ts';
import * as income from './income.ts';
import * as facts from './key-facts.ts';
import { type KeyHashCost, KeyHasher, secretCheck } from './key-hash.ts';
import * as overrides from './key-overrides.ts';
import * as records from './key-records.ts';
import { keyStandings } from './key-standings.ts';
import * as keys from './keys.ts';
import * as licenceAttempts from './licence-attempts.ts';
import { endTurn, readMeta, readOrSetMeta, takeTurn } from './meta.ts';
import * as payments from './payments.ts';
import { namePurchase } from './purchase-names.ts';
import * as purchaseRecords from './purchase-records.ts';
import * as purchases from './purchases.ts';
import * as recoveries from './recoveries.ts';
import * as refusals from './refusals.ts';
import * as reveals from './reveals.ts';
import * as secondFactor from './second-factor.ts';
import { inOneStep, type Store } from './store.ts';
import * as subscriptions from './subscriptions.ts';
import * as traffic from './traffic.ts';
import * as trials from './trials.ts';
import * as usage from './usage-ledger.ts';

export { backupKeystore, type Restored, restoreKeystore, tryRestore } from './backup.ts';
export type { BackupRecord } from './backup-record.ts';
export type { Change } from './change-feed.ts';
export type { ConsoleUser } from './console-users.ts';
export { type Copied, type CopyProgress, copyKeystore } from './copy.ts';
export type { CustomerRecord } from './customer-records.ts';
export type { Buyer, Customer, CustomerSnapshot } from './customers.ts';
export type { Device, Places } from './devices.ts';
export { KeystoreError, KeystoreOpenError, keystoreProblem } from './errors.ts';
export type { EventObject, EventRecord, LeasedEvent, ReceivedEvent } from './event-inbox.ts';
export { COUNTED, type EventTypeRecord } from './event-types.ts';
export type { IncomeDay, IncomePart, IncomeSnapshot } from './income.ts';
export type { KeyFacts, KnownOfKey } from './key-facts.ts';
export type { KeyCursor, KeyFilter, KeyRecord } from './key-records.ts';
export type { KeysOfAStanding } from './key-standings.ts';
export type { CreatedKey, NewKey, RotatedKey, RotationRefusal } from './keys.ts';
export type { LicenceAttempt } from './licence-attempts.ts';
export { MAIL_TYPE, type MailKind } from './own-events.ts';
export type { PaymentSnapshot, RulesOf } from './payments.ts';
export { PURCHASES_COUNTED, type PurchaseRecord } from './purchase-records.ts';
export type { ProvisionPurchase, Purchase } from './purchases.ts';
export { RECOVERY_TTL_MS, type RecoverableKey } from './recoveries.ts';
export type { Refusal } from './refusals.ts';
export type { Claim, Replacement, RevealState } from './reveals.ts';
export type { PurchaseStatus, TrafficKind } from './schema.ts';
export type { SubscriptionRecord, SubscriptionSnapshot } from './subscriptions.ts';
export type { SyncOutcome } from './sync.ts';
export { TRAFFIC_KEPT_DAYS, type Traffic, type TrafficCount } from './traffic.ts';
export type { BegunTrial, Trial } from './trials.ts';
export type { UsageRow } from './usage-ledger.ts';
export { hourOf, monthEndMs, monthStartHour } from './usage-ledger.ts';

export type KeystoreOptions = {
  /** `sqlite:<path>` or `postgres://...`. */
  url: string;
  serverSecret: string;
  keyHash: KeyHashCost;
  /** How long an unclaimed key waits for its buyer, milliseconds. */
  revealTtlMs: number;
  log: Logger;
  /** Whether e-mail is set up: otherwise none is queued. */
  mails?: boolean;
  /** How often to look for changes made by other processes, milliseconds; as the database has it when omitted. */
  pollMs?: number;
  /** The time, in milliseconds since the epoch. */
  now?: () => number;
};

/** What a check of the keystore writes and takes back: some pages. */
const WRITE_CHECK_BYTES = 16_384;

/** How long processed events and checkouts that came to nothing are kept. Stripe lists events for 30 days. */
const HISTORY_KEPT_MS = 90 * 86_400_000;

/** How long change notices are kept for gateways that were away; older ones cost them a whole reload. */
const CHANGES_KEPT_MS = 3_600_000;

export type Keystore = Awaited<ReturnType<typeof openKeystore>>;

/**
 * Opens the keystore: makes it when there is none, brings its schema up to date, checks that it belongs to this server
 * secret. Several processes may have it open; within one process, share one.
 *
 * @throws KeystoreOpenError when it cannot be used, with the remedy in its message
 */
export async function openKeystore(options: KeystoreOptions) {
  const { url, serverSecret, keyHash, revealTtlMs, log, mails = false, pollMs, now = Date.now } = options;
  const opened = await openDatabase(url);
  const { feed, ...database } = opened;
  const store: Store = {
    ...database,
    hasher: new KeyHasher(serverSecret, keyHash),
    serverSecret,
    revealTtlMs,
    mails,
    changes: new ChangeFeed({ ...feed, ...(pollMs === undefined ? {} : { pollMs }), log, now }),
    now,
  };
  try {
    await checkServerSecret(store);
  } catch (error) {
    await closeDatabase(opened);
    throw error;
  }
  const bind =
    <Input, Output>(operation: (store: Store, input: Input) => Output) =>
    (input: Input): Output =>
      operation(store, input);
  let mode: Mode | null = null;

  return {
    hasher: store.hasher,
    changes: store.changes,

    namePurchase: bind(namePurchase),
    recordPurchase: bind(purchases.recordPurchase),
    provisionPurchase: bind(purchases.provisionPurchase),
    endPurchase: bind(purchases.endPurchase),
    findPurchase: bind(purchases.findPurchase),
    browsePurchases: bind(purchaseRecords.browsePurchases),
    countPurchases: bind(purchaseRecords.countPurchases),
    findPurchaseRecord: bind(purchaseRecords.findPurchaseRecord),
    findPurchaseById: bind(purchases.findPurchaseById),
    findReveal: bind(reveals.findReveal),
    findRevealForProgram: bind(reveals.findRevealForProgram),
    claimReveal: bind(reveals.claimReveal),
    replaceUnused: bind(reveals.replaceUnused),

    syncSubscription: bind(subscriptions.syncSubscription),
    findSubscription: bind(subscriptions.findSubscription),
    listSubscriptions: bind(subscriptions.listSubscriptions),
    findCustomer: bind(customers.findCustomer),
    browseCustomers: bind(customerRecords.browseCustomers),
    findCustomerRecord: bind(customerRecords.findCustomerRecord),
    subscriptionsOf: bind(customerRecords.subscriptionsOf),
    syncCustomer: bind(customers.syncCustomer),
    openSubscriptionsOf: bind(customers.openSubscriptionsOf),
    findPayment: bind(payments.findPayment),
    undecidedPayments: () => payments.undecidedPayments(store),
    syncPayment: bind(payments.syncPayment),
    syncIncome: bind(income.syncIncome),
    findIncome: bind(income.findIncome),
    unknownIncome: bind(income.unknownIncome),
    incomeByDay: bind(income.incomeByDay),

    requestRecovery: bind(recoveries.requestRecovery),
    recoverableKeys: bind(recoveries.recoverableKeys),
    createRecovery: bind(recoveries.createRecovery),
    findRecovery: bind(recoveries.findRecovery),
    recoverKey: bind(recoveries.recoverKey),

    findKeyFacts: bind(facts.findKeyFacts),
    authenticateKey: bind(keys.authenticateKey),
    markKeysUsed: bind(keys.markKeysUsed),
    createKey: bind(keys.createKey),
    createKeys: bind(keys.createKeys),
    revokeKey: bind(keys.revokeKey),
    rotateKey: bind(keys.rotateKey),
    allowAddresses: bind(keys.allowAddresses),
    nameKey: bind(keys.nameKey),
    expireKeyAt: bind(keys.expireKeyAt),
    suspendKey: bind(overrides.suspendKey),
    resumeKey: bind(overrides.resumeKey),
    overrideLimits: bind(overrides.overrideLimits),
    upgradeKeyHash: bind(keys.upgradeKeyHash),
    listKeys: bind(records.listKeys),
    browseKeys: bind(records.browseKeys),
    keyStandings: () => keyStandings(store),
    findKey: bind(records.findKey),
    findPredecessor: bind(records.findPredecessor),
    keyHistory: bind(records.keyHistory),

    activateDevice: bind(devices.activateDevice),
    seeDevice: bind(devices.seeDevice),
    releaseDevice: bind(devices.releaseDevice),
    listDevices: bind(devices.listDevices),
    noteLicenceAttempt: bind(licenceAttempts.noteLicenceAttempt),
    listLicenceAttempts: bind(licenceAttempts.listLicenceAttempts),
    requestTrial: bind(trials.requestTrial),
    findTrial: bind(trials.findTrial),
    createTrialCode: bind(trials.createTrialCode),
    confirmTrial: bind(trials.confirmTrial),
    beginTrial: bind(trials.beginTrial),

    createConsoleUser: bind(consoleUsers.createConsoleUser),
    disableConsoleUser: bind(consoleUsers.disableConsoleUser),
    listConsoleUsers: () => consoleUsers.listConsoleUsers(store),
    hasConsoleUsers: () => consoleUsers.hasConsoleUsers(store),
    checkConsolePassword: bind(consoleUsers.checkConsolePassword),
    changeConsolePassword: bind(consoleUsers.changeConsolePassword),
    setUpSecondFactor: bind(secondFactor.setUpSecondFactor),
    removeSecondFactor: bind(secondFactor.removeSecondFactor),
    startConsoleSession: bind(consoleSessions.startConsoleSession),
    findConsoleSession: bind(consoleSessions.findConsoleSession),
    endConsoleSession: bind(consoleSessions.endConsoleSession),

    receiveEvent: bind(inbox.receiveEvent),
    leaseEvents: bind(inbox.leaseEvents),
    completeEvents: bind(inbox.completeEvents),
    failEvents: bind(inbox.failEvents),
    replayEvent: bind(inbox.replayEvent),
    renewLeases: bind(inbox.renewLeases),
    releaseLeases: bind(inbox.releaseLeases),
    unknownEvents: bind(inbox.unknownEvents),
    findEvent: bind(inbox.findEvent),
    listEvents: bind(inbox.listEvents),
    eventTypes: () => eventTypes(store),
    inboxDepth: () => inbox.inboxDepth(store),
    oldestPendingSince: () => inbox.oldestPendingSince(store),

    recordUsage: <Row extends usage.UsageRow>(
      rows: usage.UsageBatch<Row>,
      onWritten: (row: Row, totalRequests: number) => void,
    ) => usage.recordUsage(store, rows, onWritten),
    usageByDay: bind(usage.usageByDay),

    recordTraffic: bind(traffic.recordTraffic),
    traffic: bind(traffic.traffic),

    recordRefusals: bind(refusals.recordRefusals),
    listRefusals: bind(refusals.listRefusals),
    findRefusal: bind(refusals.findRefusal),
    lastRefusals: () => refusals.lastRefusals(store),

    /**
     * Binds the keystore to a mode at its first use, and refuses any other from then on.
     *
     * @throws KeystoreOpenError when it belongs to the other mode
     */
    async bindMode(wanted: Mode): Promise<void> {
      mode = (await readOrSetMeta(store, 'mode', wanted)) as Mode;
      await readOrSetMeta(store, 'bound_at', String(now()));
      if (mode !== wanted) {
        throw new KeystoreOpenError(
          `${store.name} is a keystore for ${mode} mode, and STRIPE_SECRET_KEY is a ${wanted} key. Live and test never mix: set KEYSTORE_URL to another keystore.`,
          'WRONG_MODE',
        );
      }
    },

    /** The mode this keystore is bound to; `null` before billing first used it. */
    async mode(): Promise<Mode | null> {
      mode ??= ((await readMeta(store, 'mode')) as Mode | undefined) ?? null;
      return mode;
    },

    /** When billing first used this keystore, milliseconds: what Stripe did before is no affair of ours. */
    async boundAt(): Promise<number> {
      return Number(await readOrSetMeta(store, 'bound_at', String(now())));
    },

    lastBackup: () => lastBackup(store),
    takeTurn: bind(takeTurn),
    endTurn: bind(endTurn),

    /** Whether the keystore answers and can be written. @throws KeystoreError when not */
    async checkWritable(): Promise<void> {
      await inOneStep(store, async ({ trx }) => {
        // New pages, not an old row written over: on a full disk only those fail.
        const row = { name: 'write_check', value: 'x'.repeat(WRITE_CHECK_BYTES) };
        await trx.insertInto('meta').values(row).execute();
        await trx.deleteFrom('meta').where('name', '=', row.name).execute();
      });
    },

    /** Whether the keystore answers. @throws KeystoreError when not */
    async checkReadable(): Promise<void> {
      await readMeta(store, 'secret_check');
    },

    /** Destroys seals whose time is up, and forgets what nobody needs: old change notices, events, abandoned checkouts. */
    async sweep(): Promise<{ expiredReveals: number }> {
      const expiredReveals = await reveals.destroyExpiredReveals(store);
      await inOneStep(store, async (step) => {
        const { trx, now: at } = step;
        await inbox.forgetEvents(step, at - HISTORY_KEPT_MS);
        await purchases.forgetPurchases(step, at - HISTORY_KEPT_MS);
        await payments.forgetPayments(step, at - HISTORY_KEPT_MS);
        await recoveries.forgetRecoveries(step);
        await trials.forgetTrials(step);
        await consoleSessions.forgetConsoleSessions(step);
        await licenceAttempts.forgetLicenceAttempts(step, at - HISTORY_KEPT_MS);
        await refusals.forgetRefusals(step);
        await traffic.forgetTraffic(step);
        const newest = trx.selectFrom('changes').select(({ fn }) => fn.max('seq').as('seq'));
        await trx
          .deleteFrom('changes')
          .where('at', '<', at - CHANGES_KEPT_MS)
          .where('seq', '<', newest)
          .execute();
      });
      return { expiredReveals };
    },

    async close(): Promise<void> {
      await store.changes.stop();
      await closeDatabase(opened);
    },
  };
}

/** With another server secret no tag would match and every good key would look wrong, so that is found out at the start. */
async function checkServerSecret(store: Store): Promise<void> {
  const check = secretCheck(store.serverSecret);
  const stored = await readOrSetMeta(store, 'secret_check', check);
  if (!timingSafeEqual(Buffer.from(stored), Buffer.from(check))) {
    throw new KeystoreOpenError(
      'This keystore was made with another TOLLGATE_SECRET. Set TOLLGATE_SECRET to that one, or KEYSTORE_URL to another keystore.',
      'WRONG_SECRET',
    );
  }
}
