import { writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CHECKS,
  outcomeOf,
  preflightConfig,
  type Result,
  type Verdict,
  withoutConfiguration,
} from '../billing/preflight/preflight.ts';
import { backupKeystore } from '../keystore/keystore.ts';
import { freePort } from '../scripts/free-port.ts';
import { ConfigError, type StripeConfig } from '../shared/config.ts';
import { temporaryFolder } from './keystores.ts';
import { type PreflightRig, startPreflightRig } from './preflight.ts';
import {
  answering,
  type Broken,
  ELSEWHERE,
  type Faults,
  faultsOf,
  folderWith,
  madeUp,
  redirectTo,
} from './preflight-faults.ts';
import { rawQuery } from './raw-sql.ts';
import { eventually } from './servers.ts';

let rig: PreflightRig;
let faults: Faults;
/** What each check says while all is well. A folder for temporary files and plain HTTP are what a test has. */
let well: Result[];

beforeAll(async () => {
  rig = await startPreflightRig();
  faults = faultsOf(rig);
  well = await rig.run();
});
afterAll(() => rig.close());

type Row = [
  what: string,
  id: string,
  verdict: Verdict,
  detail: RegExp,
  breakIt: (rig: PreflightRig) => Broken | Promise<Broken>,
];

const rows: Row[] = [
  [
    'a secret of this installation in a tracked file',
    'secrets',
    'stop',
    /^In a file that git tracks: TOLLGATE_SECRET in config\.txt\.$/,
    () => faults.repository(`secret = ${rig.environment.TOLLGATE_SECRET}\n`),
  ],
  [
    'a secret that was taken out of the file, and is in the history',
    'secrets',
    'stop',
    /^In the history of git: STRIPE_WEBHOOK_SECRET in commit [0-9a-f]+\.$/,
    () => faults.repository(rig.environment.STRIPE_WEBHOOK_SECRET as string, 'nothing'),
  ],
  [
    "somebody's live key in a tracked file",
    'secrets',
    'stop',
    /a live Stripe key in config\.txt/,
    () => faults.repository(`key=${madeUp('sk_live_', 24)}`),
  ],
  [
    'a live key that was in the history, and may have been replaced',
    'secrets',
    'warning',
    /a live Stripe key in commit/,
    () => faults.repository(madeUp('rk_live_', 24), 'nothing'),
  ],
  [
    'a keystore that cannot be written',
    'keystore',
    'stop',
    /cannot be written: .*disk is full/,
    async () => {
      const url = rig.tollgate.config.keystoreUrl;
      await rawQuery(
        url,
        "create trigger full before insert on meta when new.name = 'write_check' begin select raise(abort, 'disk is full'); end",
      );
      return { mend: () => rawQuery(url, 'drop trigger full') };
    },
  ],
  ['no backup', 'backup', 'warning', /never backed up/, () => faults.backupNoted(() => null)],
  [
    'an old backup',
    'backup',
    'warning',
    /made 9 days ago/,
    () => faults.backupNoted((record) => ({ ...record, at: Date.now() - 9 * 86_400_000 })),
  ],
  [
    'a backup of the day before yesterday',
    'backup',
    'warning',
    /made 2 days ago; a trial restore/,
    () => faults.backupNoted((record) => ({ ...record, at: Date.now() - 2 * 86_400_000 })),
  ],
  [
    'an older file than the last backup that was made',
    'backup',
    'warning',
    /made less than an hour ago, but what is in .*old\.sqlite is of 9 days ago; a trial restore/,
    async () => {
      const backupFile = join(temporaryFolder(), 'old.sqlite');
      await backupKeystore(rig.tollgate.config.keystoreUrl, backupFile);
      const asItIs = await faults.backupNoted(({ at }) => ({ at, file: '/backups/newest.sqlite' }));
      const at = Date.now() - 9 * 86_400_000;
      const noted = JSON.stringify({ at, file: backupFile });
      await rawQuery(`sqlite:${backupFile}`, `update meta set value = '${noted}' where name = 'last_backup'`);
      await rawQuery(`sqlite:${backupFile}`, `update audit set at = ${at}`);
      return { ...asItIs, context: { backupFile } };
    },
  ],
  [
    'a backup that is damaged',
    'backup',
    'stop',
    /could not be restored: .* is no sound backup/,
    () => {
      const backupFile = join(temporaryFolder(), 'backup.sqlite');
      writeFileSync(backupFile, 'Buy milk. '.repeat(500));
      return { context: { backupFile } };
    },
  ],
  [
    'a backup that is kept elsewhere',
    'backup',
    'skipped',
    /is not there any more/,
    () => ({ context: { backupFile: join(temporaryFolder(), 'gone.sqlite') } }),
  ],
  [
    'a clock that is minutes ahead',
    'clock',
    'stop',
    /is 60\d seconds ahead of|is 59\d seconds ahead of/,
    () => ({ context: { now: () => Date.now() + 600_000 } }),
  ],
  [
    'a clock that is half a minute behind',
    'clock',
    'warning',
    /seconds behind/,
    () => ({ context: { now: () => Date.now() - 30_000 } }),
  ],
  [
    'a plan on sale without a price',
    'plans',
    'stop',
    /^Without a price in test mode: team\.$/,
    () => faults.withEnv({ PRICE_ID_TEST_TEAM: undefined }),
  ],
  [
    'a price that is not there',
    'prices',
    'stop',
    /^price_gone \(plan pro\) is not a price of this Stripe account in test mode\.$/,
    () => faults.withEnv({ PRICE_ID_TEST_PRO: 'price_gone' }),
  ],
  [
    'a price that was archived',
    'prices',
    'stop',
    /archived/,
    async () => {
      await rig.stripe.prices.update(rig.prices.pro as string, { active: false });
      return { mend: () => rig.stripe.prices.update(rig.prices.pro as string, { active: true }) };
    },
  ],
  [
    'a price of another amount than the pricing page shows',
    'prices',
    'stop',
    /is not \$19 a month at Stripe, .* but 2900 usd/,
    () => faults.pricedAt({ unit_amount: 2900, recurring: { interval: 'month' } }),
  ],
  [
    'a yearly price for a monthly plan',
    'prices',
    'stop',
    /is charged every year at Stripe, and every month on the pricing page/,
    () => faults.pricedAt({ unit_amount: 1900, recurring: { interval: 'year' } }),
  ],
  [
    'a one-time price for a subscription',
    'prices',
    'stop',
    /is charged once at Stripe/,
    () => faults.pricedAt({ unit_amount: 1900 }),
  ],
  [
    'a public address that leads to something else',
    'public-urls',
    'stop',
    /answers, but not as the gateway of this installation/,
    async () => {
      const { url, mend } = await answering('127.0.0.1');
      return { ...faults.changedConfig({ publicGatewayUrl: url }), mend };
    },
  ],
  [
    'a public address that leads to the other service',
    'public-urls',
    'stop',
    /answers, but not as the gateway/,
    () => faults.changedConfig({ publicGatewayUrl: rig.tollgate.config.publicBillingUrl }),
  ],
  [
    'a public address that leads nowhere',
    'public-urls',
    'stop',
    /cannot be reached from here: ECONNREFUSED/,
    async () => faults.changedConfig({ publicGatewayUrl: `http://127.0.0.1:${await freePort()}` }),
  ],
  [
    'no upstream that is known here',
    'upstream',
    'skipped',
    /not known here/,
    () => ({ context: { upstreamUrls: null } }),
  ],
  [
    'no webhook endpoint for this address',
    'webhook-endpoint',
    'stop',
    /^No webhook endpoint at Stripe has the address http:\/\/127/,
    () => faults.endpointUpdated({ url: ELSEWHERE }),
  ],
  [
    'a webhook endpoint that is disabled',
    'webhook-endpoint',
    'stop',
    /is disabled at Stripe/,
    () => faults.endpointUpdated({ disabled: true }),
  ],
  [
    'a webhook endpoint that lacks events',
    'webhook-endpoint',
    'stop',
    /is not sent .*charge\.refunded/,
    () => faults.endpointUpdated({ enabled_events: ['checkout.session.completed'] }),
  ],
  [
    'a webhook endpoint with events of long ago',
    'webhook-endpoint',
    'stop',
    /events of API version 2017-08-15/,
    () => faults.anotherEndpoint(true, { api_version: '2017-08-15' }),
  ],
  [
    'a webhook endpoint with events of the future',
    'webhook-endpoint',
    'warning',
    /newer than/,
    () => faults.anotherEndpoint(true, { api_version: '2099-01-01.quince' }),
  ],
  [
    'two webhook endpoints for this address',
    'webhook-endpoint',
    'warning',
    /^2 endpoints at Stripe lead here/,
    () => faults.anotherEndpoint(false),
  ],
  [
    'the signing secret of another endpoint',
    'signature',
    'stop',
    /got 400 invalid_signature/,
    () =>
      faults.changedConfig({
        stripe: {
          ...(rig.tollgate.config.stripe as StripeConfig),
          webhookSecret: 'whsec_ofAnotherEndpoint',
        },
      }),
  ],
  [
    'a portal without cancellation',
    'portal',
    'stop',
    /^Switched off in the customer portal: cancellation\.$/,
    () => faults.withoutPortal('subscription_cancel'),
  ],
  [
    'a portal without invoices',
    'portal',
    'stop',
    /portal: invoices\.$/,
    () => faults.withoutPortal('invoice_history'),
  ],
  [
    'a portal without payment methods',
    'portal',
    'stop',
    /portal: payment methods\.$/,
    () => faults.withoutPortal('payment_method_update'),
  ],
  [
    'a payment link that ends at Stripe',
    'payment-links',
    'stop',
    /ends on a page of Stripe's/,
    () => faults.paymentLink(),
  ],
  [
    'a payment link without the placeholder',
    'payment-links',
    'stop',
    /without \{CHECKOUT_SESSION_ID\}/,
    () => faults.paymentLink(redirectTo(`${rig.tollgate.config.publicBillingUrl}/billing/success`)),
  ],
  [
    'a payment link to another server',
    'payment-links',
    'stop',
    /leads to https:\/\/old\.example/,
    () =>
      faults.paymentLink(redirectTo('https://old.example/billing/success?session_id={CHECKOUT_SESSION_ID}')),
  ],
  [
    'a customer who canceled, and is still admitted',
    'canceled-customers',
    'stop',
    /^Ended at Stripe, and still admitted here: sub_/,
    async () => {
      const session = await rig.stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: rig.prices.pro as string, quantity: 1 }],
        success_url: `${rig.tollgate.config.publicBillingUrl}/billing/success?session_id={CHECKOUT_SESSION_ID}`,
      });
      await rig.control(`/checkout/sessions/${session.id}/pay`);
      const paid = await rig.stripe.checkout.sessions.retrieve(session.id);
      const { keystore } = rig.tollgate;
      const find = () => keystore.findSubscription(paid.subscription as string);
      await eventually(async () => expect((await find())?.hasLivingKey).toBe(true));
      // Whatever else was sent makes billing look, too.
      await rig.control('/delivery/flush');
      await eventually(async () => expect((await keystore.inboxDepth()).pending).toBe(0));
      await rig.control('/delivery', { mode: 'paused' });
      await rig.stripe.subscriptions.cancel(paid.subscription as string);
      return {
        mend: async () => {
          await rig.control('/delivery', { mode: 'concurrent' });
          await eventually(async () => expect((await find())?.status).toBe('canceled'));
        },
      };
    },
  ],
  [
    'nothing said about refunds and privacy',
    'policies',
    'warning',
    /^Unset: REFUND_POLICY_URL, PRIVACY_URL\.$/,
    () => faults.withEnv({ REFUND_POLICY_URL: '', PRIVACY_URL: '' }),
  ],
  [
    'no address for support',
    'policies',
    'warning',
    /^Unset: SUPPORT_EMAIL\.$/,
    () => faults.withEnv({ SUPPORT_EMAIL: '' }),
  ],
  [
    'nobody who has approved anything',
    'attestations',
    'warning',
    /^There is no .*preflight\.yaml\.$/,
    () => ({ context: { folder: folderWith(null) } }),
  ],
  [
    'an approval that is missing',
    'attestations',
    'warning',
    /prices and usage limits are approved, legal review is done, accounting review is done\.$/,
    () => ({ context: { folder: folderWith('support_answered: { by: Ada Example, on: 2026-11-01 }\n') } }),
  ],
  [
    'approvals without a name',
    'attestations',
    'stop',
    /cannot be read: legal_reviewed\.by/,
    () => ({ context: { folder: folderWith('legal_reviewed: { on: 2026-11-01 }\n') } }),
  ],
  [
    'Stripe away',
    'webhook-endpoint',
    'stop',
    /^It could not be looked at: Stripe did not answer/,
    async () => {
      await rig.control('/faults', { count: 20, status: 503, paths: ['/v1/webhook_endpoints'] });
      return { mend: () => rig.control('/faults/clear') };
    },
  ],
];

describe('preflight', () => {
  it('says go while everything is right', () => {
    expect(outcomeOf(well)).toBe('go');
    const notWell = well.filter(({ verdict }) => verdict !== 'ok').map(({ id, verdict }) => [id, verdict]);
    expect(notWell).toEqual([
      ['keystore', 'warning'],
      ['public-urls', 'warning'],
    ]);
  });

  it.each(rows)('%s: %s says %s', async (_what, id, verdict, detail, breakIt) => {
    const { context, mend } = await breakIt(rig);
    const results = await rig.run(context).finally(() => mend?.());
    const changed = results.filter((result, index) => result.verdict !== well[index]?.verdict);
    expect(changed).toEqual([
      expect.objectContaining({ id, verdict, detail: expect.stringMatching(detail) }),
    ]);
    expect(changed[0]?.remedy).toBeTruthy();
    expect(outcomeOf(results)).toBe(verdict === 'stop' ? 'stop' : 'go');
  });

  it('is as it was after all that', async () => {
    expect((await rig.run()).map(({ id, verdict }) => [id, verdict])).toEqual(
      well.map(({ id, verdict }) => [id, verdict]),
    );
  });

  it('an endpoint for thin events will do', async () => {
    const { mend } = await faults.endpointUpdated({ url: ELSEWHERE });
    await rig.control('/listen', { url: faults.webhookUrl(), thin: true });
    const [result] = (await rig.run()).filter(({ id }) => id === 'webhook-endpoint');
    const { data } = await rig.stripe.v2.core.eventDestinations.list();
    await rig.stripe.v2.core.eventDestinations.del(data[0]?.id as string);
    await mend?.();
    expect(result).toMatchObject({ verdict: 'ok', detail: expect.stringContaining('The endpoint ed_') });
  });

  it('an API that listens on every address of the machine is told from one that does not', async () => {
    const hasOthers = Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .some(({ internal, address }) => !internal && !/^fe80:/i.test(address));
    const { url, mend } = await answering('0.0.0.0');
    const [result] = (await rig.run({ upstreamUrls: [url] })).filter(({ id }) => id === 'upstream');
    mend();
    expect(result).toMatchObject(
      hasOthers
        ? { verdict: 'warning', detail: expect.stringContaining('listens on') }
        : { verdict: 'ok', detail: expect.stringContaining('no other address') },
    );
  });

  it('with real money, what test mode only warns of is a stop', async () => {
    const results = await rig.run({
      mode: 'live',
      folder: folderWith(null),
      config: { ...rig.tollgate.config, policies: { terms: null, refunds: null, privacy: null } },
    });
    const stops = results.filter(({ verdict }) => verdict === 'stop').map(({ id }) => id);
    expect(stops).toEqual(expect.arrayContaining(['keystore', 'public-urls', 'policies', 'attestations']));
    await faults
      .backupNoted(() => null)
      .then(async ({ mend }) => {
        const [backup] = (await rig.run({ mode: 'live' })).filter(({ id }) => id === 'backup');
        await mend?.();
        expect(backup?.verdict).toBe('stop');
      });
  });

  it('a configuration of the other mode, or none: that is the stop, and nothing else is looked at', () => {
    for (const [env, mode] of [
      [rig.environment, 'live'],
      [{}, 'test'],
    ] as const) {
      const results = withoutConfiguration(configurationFault(env, mode));
      expect(results.map(({ id }) => id)).toEqual(CHECKS.map(({ id }) => id));
      expect(results.filter(({ verdict }) => verdict !== 'skipped')).toMatchObject([
        { id: 'configuration', verdict: 'stop', detail: expect.stringContaining('STRIPE_SECRET_KEY is') },
      ]);
    }
  });

  it('no result holds a secret', async () => {
    const { context } = faults.repository(
      rig.environment.TOLLGATE_SECRET as string,
      rig.environment.STRIPE_WEBHOOK_SECRET as string,
    );
    const text = JSON.stringify(await rig.run(context));
    for (const name of ['TOLLGATE_SECRET', 'STRIPE_WEBHOOK_SECRET', 'STRIPE_SECRET_KEY'])
      expect(text).not.toContain(rig.environment[name]);
  });
});

function configurationFault(env: Record<string, string>, mode: 'test' | 'live'): ConfigError {
  try {
    preflightConfig(env, mode);
  } catch (error) {
    if (error instanceof ConfigError) return error;
  }
  throw new Error('The configuration was taken');
}
