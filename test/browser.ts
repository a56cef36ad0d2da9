import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest';

const EXECUTABLES = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
];

/** How long a page may take to show what is waited for: what is wrong shows at once, and a machine may be slow. */
const PATIENCE_MS = 120_000;

export const SIZES = {
  wide: { viewport: { width: 1280, height: 900 } },
  narrow: { viewport: { width: 360, height: 740 } },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
  'narrow-dark': { viewport: { width: 360, height: 740 }, colorScheme: 'dark' },
} satisfies Record<string, BrowserContextOptions>;

/** A Chromium of this machine; `undefined` when there is none. */
export function findChromium(): string | undefined {
  return EXECUTABLES.find((path) => path && existsSync(path));
}

/** Starts Chromium with nothing of its own going out. */
export function launchBrowser(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
}

/** What a page may do that is no complaint: be answered with these statuses, for which Chromium logs an error each. */
interface Tolerance {
  statuses?: readonly number[];
}

/**
 * A Chromium for the tests of a file or of a `describe`, which are skipped where there is none. After each test its pages are
 * closed, and it fails if one of them complained: of what its policy blocked, a script threw or the server did not have.
 */
export function useBrowser({ statuses = [] }: Tolerance = {}) {
  const executable = findChromium();
  let browser: Browser;
  let complaints: string[] = [];
  beforeAll(async () => {
    if (executable) browser = await launchBrowser(executable);
  });
  afterAll(() => browser?.close());
  beforeEach(({ skip }) => skip(!executable, 'there is no Chromium on this machine'));
  afterEach(async () => {
    await Promise.all(browser?.contexts().map((context) => context.close()) ?? []);
    const heard = complaints.filter(
      (each) => !statuses.some((status) => each.includes(`status of ${status} `)),
    );
    complaints = [];
    expect(heard, 'complaints of pages').toEqual([]);
  });
  return {
    /** A page of somebody who was never here before: with cookies of its own. */
    async newPage(options: BrowserContextOptions = {}): Promise<Page> {
      const context = await browser.newContext(options);
      context.setDefaultTimeout(PATIENCE_MS);
      const page = await context.newPage();
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(error.message));
      return page;
    },
  };
}

/** Signs in at the console of a billing; who cannot be let in is told so. */
export async function signInAtConsole(
  page: Page,
  billingUrl: string,
  { name = 'ada', password, code = '' }: { name?: string; password: string; code?: string },
): Promise<void> {
  await page.goto(`${billingUrl}/console`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByLabel('Code').fill(code);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('#who, [role="alert"]').first().waitFor();
}

/** What can depend on the size and the colours of a window; all else that axe-core looks at is in the text of the page. */
const RULES_OF_SIZE_AND_COLOUR = ['color-contrast', 'scrollable-region-focusable', 'target-size'];
const OPERABLE = 'a[href], button, input:not([type="hidden"]), select, textarea, summary';

/**
 * Looks at a page in every size: keeps a picture of each where `SCREENSHOTS` names a folder, and expects that nobody is kept
 * from using it, that it fits its window, and that whatever can be pressed or filled in can be so in all of them.
 */
export async function look(page: Page, name: string): Promise<void> {
  const still = await asItStands(page);
  // Not as a script of the page, which its policy would refuse.
  await still.evaluate(axe.source);
  let operable: unknown;
  for (const [size, { viewport, ...media }] of Object.entries(SIZES)) {
    await still.setViewportSize(viewport);
    await still.emulateMedia({ colorScheme: 'light', ...media });
    await screenshot(still, `${size}-${name}`);
    expect(await barriers(still, { all: operable === undefined }), `${size} ${name}`).toEqual([]);
    expect(
      await still.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'),
      `${size} ${name} is too wide for its window`,
    ).toBeLessThanOrEqual(0);
    const visible = await still.evaluate(
      `[...document.querySelectorAll(${JSON.stringify(OPERABLE)})].filter((element) => element.checkVisibility()).map((element) => element.outerHTML)`,
    );
    operable ??= visible;
    expect(visible, `${size} ${name}: what can be pressed or filled in`).toEqual(operable);
  }
  await still.close();
}

/**
 * A copy of a page in a window of its own. The page itself may load itself anew every few seconds, and on a busy machine a
 * look takes longer than that.
 */
async function asItStands(page: Page): Promise<Page> {
  const { url, body } = await vi.waitFor(async () => ({ url: page.url(), body: await page.content() }));
  const still = await page.context().newPage();
  await still.route(url, (route) => route.fulfill({ contentType: 'text/html; charset=utf-8', body }));
  await still.goto(url);
  return still;
}

/** Keeps a picture of the page where `SCREENSHOTS` names a folder. */
export async function screenshot(page: Page, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

/**
 * What of a page keeps people from using it, by axe-core: its serious and critical faults, a line each. Of `all` rules, or of
 * those that depend on the window.
 *
 * @see https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md
 */
async function barriers(page: Page, { all }: { all: boolean }): Promise<string[]> {
  const options: axe.RunOptions = {
    resultTypes: ['violations'],
    rules: { 'target-size': { enabled: true } },
    ...(!all && { runOnly: { type: 'rule', values: RULES_OF_SIZE_AND_COLOUR } }),
  };
  const violations = (await page.evaluate(
    `axe.run(${JSON.stringify(options)}).then(({ violations }) => violations)`,
  )) as axe.Result[];
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id} (${help}): ${html}`));
}
