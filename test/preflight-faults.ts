import { execFileSync } from 'node:child_process';
import { copyFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type Stripe from 'stripe';
import { type PreflightContext, preflightConfig } from '../billing/preflight/preflight.ts';
import { temporaryFolder } from './keystores.ts';
import type { PreflightRig } from './preflight.ts';
import { rawQuery } from './raw-sql.ts';

export const ELSEWHERE = 'https://elsewhere.example/hook';

export type Faults = ReturnType<typeof faultsOf>;

/** What is done to break it: the other context in which it is broken, or how to mend it. */
export type Broken = { context?: Partial<PreflightContext>; mend?: () => unknown };

/** Ways to break what preflight looks at. */
export function faultsOf(rig: PreflightRig) {
  const webhookUrl = () => `${rig.tollgate.config.publicBillingUrl}/billing/webhook`;

  /** With other variables; `undefined` unsets one. */
  function withEnv(changes: Record<string, string | undefined>): Broken {
    return { context: { config: preflightConfig({ ...rig.environment, ...changes }, 'test') } };
  }

  async function pricedAt(params: Omit<Stripe.PriceCreateParams, 'product' | 'currency'>): Promise<Broken> {
    const { product } = await rig.stripe.prices.retrieve(rig.prices.pro as string);
    const { id } = await rig.stripe.prices.create({ product: product as string, currency: 'usd', ...params });
    return withEnv({ PRICE_ID_TEST_PRO: id });
  }

  async function endpointUpdated(params: Stripe.WebhookEndpointUpdateParams): Promise<Broken> {
    await rig.stripe.webhookEndpoints.update(rig.endpointId, params);
    return {
      mend: () =>
        rig.stripe.webhookEndpoints.update(rig.endpointId, {
          url: webhookUrl(),
          enabled_events: ['*'],
          disabled: false,
        }),
    };
  }

  async function anotherEndpoint(instead: boolean, more: object = {}): Promise<Broken> {
    const { mend } = instead ? await endpointUpdated({ url: ELSEWHERE }) : {};
    const { id } = await rig.control('/listen', { url: webhookUrl(), ...more });
    return {
      mend: async () => {
        await rig.stripe.webhookEndpoints.del(id as string);
        await mend?.();
      },
    };
  }

  async function portalFeature(name: string, enabled: boolean): Promise<void> {
    const { data } = await rig.stripe.billingPortal.configurations.list();
    await rig.stripe.billingPortal.configurations.update(data[0]?.id as string, {
      features: { [name]: { enabled } },
    });
  }

  async function withoutPortal(name: string): Promise<Broken> {
    await portalFeature(name, false);
    return { mend: () => portalFeature(name, true) };
  }

  async function paymentLink(
    after_completion?: Stripe.PaymentLinkCreateParams.AfterCompletion,
  ): Promise<Broken> {
    const { id } = await rig.stripe.paymentLinks.create({
      line_items: [{ price: rig.prices.pro as string, quantity: 1 }],
      ...(after_completion ? { after_completion } : {}),
    });
    return { mend: () => rig.stripe.paymentLinks.update(id, { active: false }) };
  }

  /** With another note of the last backup; `null`: without one. */
  async function backupNoted(
    change: (record: { at: number; file: string }) => object | null,
  ): Promise<Broken> {
    const url = rig.tollgate.config.keystoreUrl;
    const [row] = await rawQuery(url, "select value from meta where name = 'last_backup'");
    const value = row?.value as string;
    const write = (text: string) =>
      rawQuery(url, `insert or replace into meta (name, value) values ('last_backup', '${text}')`);
    const changed = change(JSON.parse(value));
    if (changed === null) await rawQuery(url, "delete from meta where name = 'last_backup'");
    else await write(JSON.stringify(changed));
    return { mend: () => write(value) };
  }

  /** A repository of git in which each of these texts was committed as config.txt, one after the other. */
  function repository(...texts: string[]): Broken {
    const folder = temporaryFolder();
    const git = (...args: string[]) =>
      execFileSync(
        'git',
        ['-C', folder, '-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', ...args],
        {
          stdio: 'ignore',
        },
      );
    git('init');
    for (const text of texts) {
      writeFileSync(join(folder, 'config.txt'), text);
      git('add', 'config.txt');
      git('commit', '-m', 'Change the configuration');
    }
    copyFileSync(join(rig.folder, 'preflight.yaml'), join(folder, 'preflight.yaml'));
    return { context: { folder } };
  }

  /** With a configuration that differs in this. */
  const changedConfig = (change: object): Broken => ({
    context: { config: { ...rig.tollgate.config, ...change } },
  });
  return {
    webhookUrl,
    withEnv,
    pricedAt,
    endpointUpdated,
    anotherEndpoint,
    portalFeature,
    withoutPortal,
    paymentLink,
    backupNoted,
    repository,
    changedConfig,
  };
}

/** What a payment link does after a payment. */
export const redirectTo = (url: string) => ({ type: 'redirect' as const, redirect: { url } });

/** A folder of the seller's, with this in its preflight.yaml. */
export function folderWith(text: string | null): string {
  const folder = temporaryFolder();
  if (text !== null) writeFileSync(join(folder, 'preflight.yaml'), text);
  return folder;
}

/** A server that answers everything, on this address. */
export async function answering(host: string): Promise<{ url: string; mend: () => unknown }> {
  const server = createServer((_request, response) => response.end('{}'));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mend: () => server.close(),
  };
}

/** What has the form of a secret, and is none. */
export const madeUp = (prefix: string, length: number) => prefix + 'a1B2c3D4'.repeat(8).slice(0, length);
