import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GROUPS } from '../billing/console/readiness.ts';
import { CHECKS, runPreflight } from '../billing/preflight/preflight.ts';
import { Readiness } from '../billing/preflight/readiness.ts';
import { type BillingServer, startBilling } from '../billing/server.ts';
import { createLogger } from '../shared/log.ts';
import { look, signInAtConsole, useBrowser } from './browser.ts';
import { type PreflightRig, startPreflightRig } from './preflight.ts';
import { rawQuery } from './raw-sql.ts';

const PASSWORD = 'correct horse battery';

describe('readiness', () => {
  let rig: PreflightRig;
  const { newPage } = useBrowser({ statuses: [404] });
  let production: BillingServer;
  beforeAll(async () => {
    rig = await startPreflightRig();
    const { config, keystore } = rig.tollgate;
    production = await startBilling({
      config: { ...config, production: true, billingPort: 0, billingInternalPort: 0 },
      keystore,
      log: createLogger({ level: 'silent' }),
      reconciles: false,
    });
    await keystore.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'test' });
  });
  afterAll(async () => {
    await production?.close();
    await rig?.close();
  });

  async function signIn(): Promise<Page> {
    const page = await newPage();
    await signInAtConsole(page, production.url, { password: PASSWORD });
    return page;
  }
  /** The checks are made by the keyboard alone. */
  async function checkNow(page: Page): Promise<void> {
    await page.locator('#check').focus();
    await page.keyboard.press('Enter');
    await page.locator('#as-of').waitFor();
    for (const secret of secrets()) expect(await page.content()).not.toContain(secret);
  }
  const cancellation = async (enabled: boolean) => {
    const [portal] = (await rig.stripe.billingPortal.configurations.list()).data;
    await rig.stripe.billingPortal.configurations.update(portal?.id as string, {
      features: { subscription_cancel: { enabled } },
    });
  };
  const secrets = () => {
    const { TOLLGATE_SECRET, STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET } = rig.environment;
    return [TOLLGATE_SECRET, STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET, PASSWORD] as string[];
  };

  it('that was not looked at yet says so', async () => {
    const page = await signIn();
    await page.getByRole('navigation', { name: 'Console' }).getByRole('link', { name: 'Readiness' }).click();
    await page.getByText('Nothing was checked since billing started').waitFor();
    expect(await page.locator('#verdict').count()).toBe(0);
    await look(page, 'readiness-1-empty');
  });

  it('with nothing in the way is a go, and says what to do next', async () => {
    const page = await signIn();
    await page.goto(`${production.url}/console/readiness`);
    await checkNow(page);
    expect(await page.locator('#standing').textContent()).toBe('go');
    expect(await page.locator('#verdict').textContent()).toMatch(/Go: no stops, \d warnings?\./);
    expect(await page.locator('#as-of').textContent()).toContain('for ada');
    expect(await page.locator('#check-webhook-endpoint').textContent()).toContain('✓ ok');
    expect(await page.locator('#check-public-urls').textContent()).toContain('! warning');
    expect(await page.locator('#check-upstream').textContent()).toMatch(/– skipped.*npm run preflight/s);
    expect(await page.locator('.checks li').count()).toBe(16);
    expect(await page.locator('#sales-stopped').count()).toBe(0);
    await look(page, 'readiness-2-go');
  });

  it('with a stop is not there yet: its remedy comes first, and every page says that nobody can buy', async () => {
    await cancellation(false);
    const page = await signIn();
    await page.goto(`${production.url}/console/readiness`);
    await checkNow(page);
    expect(await page.locator('#standing').textContent()).toBe('not yet');
    expect(await page.locator('#verdict').textContent()).toContain('Not yet: 1 stop,');
    expect(await page.locator('#next').textContent()).toMatch(
      /Next, for “Buyers can cancel.*”: npm run preflight -- --mode test --repair switches it on/,
    );
    expect(await page.locator('#check-portal').textContent()).toContain('✗ stop');
    await look(page, 'readiness-3-stop');
    for (const path of ['/console/keys', '/console/events', '/console/no-such-page']) {
      await page.goto(production.url + path);
      const banner = page.locator('#sales-stopped');
      expect(await banner.textContent(), path).toContain('Buyers cannot cancel in the customer portal.');
      expect(await banner.getByRole('link').getAttribute('href')).toBe('/console/readiness');
    }
    const metrics = async () => (await fetch(`${production.internalUrl}/metrics`)).text();
    expect(await metrics()).toContain('tollgate_billing_stop_conditions{condition="portal"} 1\n');
    expect(await metrics()).toContain('tollgate_billing_stop_conditions{condition="webhook"} 0\n');
    await page.goto(`${production.url}/console/keys`);
    await look(page, 'readiness-4-banner');

    await cancellation(true);
    await page.goto(`${production.url}/console/readiness`);
    await checkNow(page);
    expect(await page.locator('#standing').textContent()).toBe('go');
    expect(await page.locator('#sales-stopped').count()).toBe(0);
    expect(await metrics()).toContain('tollgate_billing_stop_conditions{condition="portal"} 0\n');
  });

  it('shows how events arrive, whatever they are called', async () => {
    const hostile = '<img src=x onerror="document.title=1">.js';
    const now = Date.now();
    await rawQuery(
      rig.environment.KEYSTORE_URL as string,
      `insert into events (id, group_key, type, mode, payload, status, attempts, next_attempt_at, error, created_at, received_at)
       values ('evt_a', 'a', 'invoice.paid', 'test', '{}', 'failed', 1, 0, '<script>alert(1)</script>', ${now}, ${now}),
         ('evt_b', 'b', '${hostile}', 'test', '{}', 'processed', 1, 0, null, ${now}, ${now}),
         ('evt_c', 'c', 'v1.invoice.paid', 'test', '{}', 'processed', 1, 0, null, ${now}, ${now})`,
    );
    const page = await signIn();
    await page.goto(`${production.url}/console/readiness`);
    const row = (type: string) => page.locator('#handled tr', { hasText: type }).first();
    expect(await row('invoice.paid').textContent()).toMatch(/renewal.*1 failed/s);
    expect(await row('v1.invoice.paid').textContent()).toContain('a thin event');
    expect(await row('customer.subscription.paused').textContent()).toContain('never');
    expect(await page.locator('#unhandled').textContent()).toContain(hostile);
    expect(await page.locator('main img').count()).toBe(0);
    await look(page, 'readiness-5-events');
    await page.getByRole('link', { name: '1 failed' }).click();
    expect(await page.locator('#events tbody').textContent()).toContain('<script>alert(1)</script>');
    expect(await page.locator('#events tbody tr').count()).toBe(1);
  });

  it('is checked once, however many ask, and remembered until it is checked again', async () => {
    const readiness = new Readiness(
      { ...rig.context, stripe: rig.stripe },
      createLogger({ level: 'silent' }),
    );
    expect([readiness.last, readiness.underWay]).toEqual([null, null]);
    const [first, second] = [readiness.check('ada'), readiness.check('bob')];
    expect(second).toBe(first);
    expect(readiness.underWay).toMatchObject({ by: 'ada' });
    await first;
    expect(readiness.underWay).toBeNull();
    const { last } = readiness;
    expect(last).toMatchObject({ by: 'ada', results: { length: 16 } });
    const again = readiness.check('bob');
    expect(readiness.last).toBe(last);
    await again;
    expect(readiness.last).toMatchObject({ by: 'bob' });
  });

  it('what hangs is a stop when the time is up, and no check waits for it', async () => {
    const hanging = { ...rig.tollgate.keystore, checkWritable: () => new Promise<void>(() => {}) };
    const results = await runPreflight({ ...rig.context, keystore: hanging }, { limitMs: 300 });
    expect(results).toHaveLength(16);
    expect(results.find(({ id }) => id === 'keystore')).toMatchObject({
      verdict: 'stop',
      detail: 'It could not be looked at in time.',
    });
  });

  it('every check has its place on the page', () => {
    expect(GROUPS.flatMap(({ checks }) => checks).sort()).toEqual(CHECKS.map(({ id }) => id).sort());
  });
});
